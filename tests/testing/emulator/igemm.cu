// An implicit GEMM on tensor cores, right and with one bug at a time: what the emulator must catch.
//
// y[n,p,q,k] = sum of x[n, p*stride+r-pad, q*stride+s-pad, c] w[k,r,s,c]: bfloat16, channels last,
// C % 8 == 0, K % 2 == 0. A block computes 32 pixels by 32 filters with two warps, 16 by 32 each.
typedef unsigned short u16;
typedef unsigned int u32;

enum Bug {
  NONE, NO_BARRIER, LAX_WAIT, NEXT_STAGE, NO_COMMIT, NO_LOAD_GUARD, NO_STORE_GUARD, SIGNED_HALO,
  NO_SWIZZLE, WRONG_ROW, DIVERGENT_BARRIER, BENT_COPY,
};
struct Sizes { int N, H, W, C, K, R, S, P, Q, stride, pad; };

const int TILE_M = 32, TILE_N = 32, TILE_K = 32, STAGES = 3, THREADS = 64;
extern __shared__ __align__(128) unsigned char memory[];

__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void copy16(u32 to, const void* from, bool inside) {
  int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ void load4(u32* r, u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
__device__ void multiply(float* d, const u32* a, const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Byte of a 16-byte chunk in a tile of rows of 64 bytes: chunks change places, so that eight rows
// of ldmatrix lie in different banks.
template <int BUG> __device__ u32 place(int row, int chunk) {
  return row * 64 + (BUG == NO_SWIZZLE ? chunk : chunk ^ (row / 2 % 4)) * 16;
}

template <int BUG> __device__ void igemm(const u16* x, const u16* w, u16* y, const Sizes& z) {
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int M = z.N * z.P * z.Q, depth = z.R * z.S * z.C, m0 = blockIdx.x * TILE_M, n0 = blockIdx.y * TILE_N;
  const u32 start = shared_address(memory), half = STAGES * TILE_M * 64;

  auto fetch = [&](int step) {
    const int chunk = t % 4, k = step * TILE_K + chunk * 8, c = k % z.C, s = k / z.C % z.S, r = k / z.C / z.S;
    const int stage = (BUG == NEXT_STAGE ? step + 1 : step) % STAGES;
    for (int row = t / 4; row < TILE_M; row += THREADS / 4) {
      const int m = m0 + row, q = m % z.Q, p = m / z.Q % z.P, n = m / z.Q / z.P;
      const int h = p * z.stride + r - z.pad, v = q * z.stride + s - z.pad;
      bool inside = m < M && k < depth && (unsigned)h < (unsigned)z.H && (unsigned)v < (unsigned)z.W;
      if (BUG == SIGNED_HALO) inside = m < M && k < depth && h < z.H && v < z.W;
      if (BUG == NO_LOAD_GUARD) inside = k < depth && (unsigned)h < (unsigned)z.H && (unsigned)v < (unsigned)z.W;
      const u16* from = inside ? x + (((long long)n * z.H + h) * z.W + v) * z.C + c : x;
      copy16(start + stage * TILE_M * 64 + place<BUG>(row, chunk) + (BUG == BENT_COPY ? 8 : 0), from, inside);
      const bool filter = n0 + row < z.K && k < depth;
      copy16(start + half + stage * TILE_N * 64 + place<BUG>(row, chunk),
             filter ? w + (long long)(n0 + row) * depth + k : w, filter);
    }
  };
  auto commit = [] { if (BUG != NO_COMMIT) asm volatile("cp.async.commit_group;" ::: "memory"); };

  float sum[4][4] = {};
  const int steps = (depth + TILE_K - 1) / TILE_K;
  for (int i = 0; i < STAGES - 1; i++) {
    if (i < steps) fetch(i);
    commit();
  }
  for (int step = 0; step < steps; step++) {
    if (BUG == LAX_WAIT) asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
    else asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    if (BUG == DIVERGENT_BARRIER) {
      if (lane != 7 || step % 2 == 0) asm volatile("bar.sync 0;" ::: "memory");
    } else if (BUG != NO_BARRIER) __syncthreads();
    if (step + STAGES - 1 < steps) fetch(step + STAGES - 1);
    commit();
    const u32 a = start + step % STAGES * TILE_M * 64, b = start + half + step % STAGES * TILE_N * 64;
    for (int k = 0; k < 2; k++) {
      u32 ra[4], rb[4];
      load4(ra, a + place<BUG>(warp * 16 + lane % 16, k * 2 + lane / 16));
      for (int j = 0; j < 2; j++) {
        const int row = j * 16 + lane % 8 + lane / 16 * (BUG == WRONG_ROW ? 4 : 8);
        load4(rb, b + place<BUG>(row, k * 2 + lane / 8 % 2));
        multiply(sum[2 * j], ra, rb);
        multiply(sum[2 * j + 1], ra, rb + 2);
      }
    }
  }
  for (int i = 0; i < 2; i++) {
    const int m = m0 + warp * 16 + i * 8 + lane / 4;
    if (m >= M && BUG != NO_STORE_GUARD) continue;
    for (int j = 0; j < 4; j++) {
      const int n = n0 + j * 8 + lane % 4 * 2;
      if (n >= z.K) continue;
      u32 two;
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(sum[j][2 * i + 1]), "f"(sum[j][2 * i]));
      *(u32*)(y + (long long)m * z.K + n) = two;
    }
  }
}

#define KERNEL(BUG) \
  extern "C" __global__ void BUG##_(const u16* x, const u16* w, u16* y, const Sizes z) { igemm<BUG>(x, w, y, z); }
KERNEL(NONE)
KERNEL(NO_BARRIER)
KERNEL(LAX_WAIT)
KERNEL(NEXT_STAGE)
KERNEL(NO_COMMIT)
KERNEL(NO_LOAD_GUARD)
KERNEL(NO_STORE_GUARD)
KERNEL(SIGNED_HALO)
KERNEL(NO_SWIZZLE)
KERNEL(WRONG_ROW)
KERNEL(DIVERGENT_BARRIER)
KERNEL(BENT_COPY)
