// An implicit GEMM the Hopper way, right and with one bug at a time: tensor maps bring the operands,
// mbarriers hand stages over, and a warpgroup multiplies.
//
// Stride 1, bfloat16, channels last, C % 64 == 0. A block computes 64 pixels by 32 filters: four
// warps multiply, a fifth one copies.
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum Bug {
  NONE, FEW_BYTES, MANY_BYTES, NO_EMPTY_WAIT, EARLY_RELEASE, NO_WAIT, NO_COMMIT, NO_SWIZZLE, WRONG_PHASE,
};
struct alignas(64) TensorMap { u64 opaque[16]; };
struct Sizes { int C, K, R, S, P, Q, pad, pixels; };

const int STAGES = 2, ROWS = 64, FILTERS = 32, A_BYTES = ROWS * 128, B_BYTES = FILTERS * 128;
extern __shared__ __align__(1024) unsigned char memory[];

__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void init(u32 at, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}
__device__ void arrive(u32 at) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory"); }
__device__ void arrive_expecting(u32 at, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
__device__ void wait(u32 at, int parity) {
  asm volatile("{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@done bra THERE;\nbra AGAIN;\nTHERE:\n}" ::"r"(at), "r"(parity) : "memory");
}
__device__ void copy_pixels(u32 to, const TensorMap* map, u32 barrier, int c, int w, int h, int n, u16 s, u16 r) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3,%4,%5,%6}], [%2], {%7,%8};" ::"r"(to), "l"(map), "r"(barrier), "r"(c), "r"(w),
               "r"(h), "r"(n), "h"(s), "h"(r) : "memory");
}
__device__ void copy_filters(u32 to, const TensorMap* map, u32 barrier, int k, int n) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4}], [%2];"
               ::"r"(to), "l"(map), "r"(barrier), "r"(k), "r"(n) : "memory");
}
// K-major rows of 128 bytes, eight of them 1024 bytes.
template <int BUG> __device__ u64 descriptor(u32 at) {
  return (u64)((at & 0x3FFFF) >> 4) | 1ull << 16 | 64ull << 32 | (BUG == NO_SWIZZLE ? 0ull : 1ull << 62);
}
__device__ void multiply(float* d, u64 a, u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},"
               " %16, %17, 1, 1, 1, 0, 0;"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                 "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
               : "l"(a), "l"(b));
}

template <int BUG> __device__ void conv(const TensorMap* x, const TensorMap* w, u16* y, const Sizes& z) {
  __shared__ u64 gates[2 * STAGES];
  const u32 full = shared_address(gates), empty = full + 8 * STAGES, a = shared_address(memory), b = a + STAGES * A_BYTES;
  const int t = threadIdx.x, m0 = blockIdx.x * ROWS, n0 = blockIdx.y * FILTERS;
  const int blocks = z.C / 64, steps = z.R * z.S * blocks;
  if (t == 0) {
    for (int i = 0; i < STAGES; i++) init(full + 8 * i, 1), init(empty + 8 * i, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (t >= 128) {
    if (t > 128) return;
    const int q = m0 % z.Q, p = m0 / z.Q % z.P, n = m0 / z.Q / z.P;
    for (int step = 0; step < steps; step++) {
      const int stage = step % STAGES, round = step / STAGES % 2, c = step % blocks * 64, tap = step / blocks;
      if (BUG != NO_EMPTY_WAIT) wait(empty + 8 * stage, round ^ 1);
      arrive_expecting(full + 8 * stage, A_BYTES + (BUG == FEW_BYTES ? 0 : BUG == MANY_BYTES ? 2 * B_BYTES : B_BYTES));
      copy_pixels(a + stage * A_BYTES, x, full + 8 * stage, c, q - z.pad, p - z.pad, n, tap % z.S, tap / z.S);
      copy_filters(b + stage * B_BYTES, w, full + 8 * stage, tap * z.C + c, n0);
    }
    return;
  }
  float sum[16] = {};
  for (int step = 0; step < steps; step++) {
    const int stage = step % STAGES, round = step / STAGES % 2;
    wait(full + 8 * stage, BUG == WRONG_PHASE ? round ^ 1 : round);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int k = 0; k < 4; k++)
      multiply(sum, descriptor<BUG>(a + stage * A_BYTES) + 2 * k, descriptor<BUG>(b + stage * B_BYTES) + 2 * k);
    if (BUG != NO_COMMIT) asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (BUG == EARLY_RELEASE && t == 0) arrive(empty + 8 * stage);
    if (BUG == EARLY_RELEASE) asm volatile("bar.sync 1, 128;" ::: "memory");
    if (BUG != NO_WAIT) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (BUG != EARLY_RELEASE && t == 0) arrive(empty + 8 * stage);
  }
  for (int i = 0; i < 16; i += 2) {
    const int m = m0 + t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, n = n0 + i / 4 * 8 + t % 4 * 2;
    if (m >= z.pixels || n >= z.K) continue;
    u32 two;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(sum[i + 1]), "f"(sum[i]));
    *(u32*)(y + (long long)m * z.K + n) = two;
  }
}

#define KERNEL(BUG)                                                                                             \
  extern "C" __global__ void __launch_bounds__(160) BUG##_(const __grid_constant__ TensorMap x,                 \
                                                           const __grid_constant__ TensorMap w, u16* y,         \
                                                           const Sizes z) {                                     \
    conv<BUG>(&x, &w, y, z);                                                                                    \
  }
KERNEL(NONE)
KERNEL(FEW_BYTES)
KERNEL(MANY_BYTES)
KERNEL(NO_EMPTY_WAIT)
KERNEL(EARLY_RELEASE)
KERNEL(NO_WAIT)
KERNEL(NO_COMMIT)
KERNEL(NO_SWIZZLE)
KERNEL(WRONG_PHASE)
