// ldmatrix, stmatrix, mma.sync and wgmma. Sums are taken in double precision and rounded once.
#include <algorithm>

#include "block.h"

namespace emulator {

void meet_warpgroup(int site, const char* what, void* argument, void (*act)(void**, u32));

namespace {

// Element number `i` of a register, widened.
f64 element(Element kind, u32 r, int i) {
  switch (kind) {
    case Element::f16: { f16 h; h.pattern = (u16)(r >> (16 * i)); return (f32)h; }
    case Element::bf16: return bits<f32>((r >> (16 * i) & 0xFFFF) << 16);
    case Element::tf32: return bits<f32>(r & ~0x1FFFu);
    case Element::s8: return (s8)(r >> (8 * i));
    case Element::u8_: return (u8)(r >> (8 * i));
    case Element::e4m3: {
      u32 v = r >> (8 * i) & 0xFF, e = v >> 3 & 15, m = v & 7;
      if ((v & 0x7F) == 0x7F) return NAN;
      f64 x = e ? std::ldexp(8.0 + m, (int)e - 10) : std::ldexp((f64)m, -9);
      return v & 0x80 ? -x : x;
    }
    case Element::e5m2: { f16 h; h.pattern = (u16)((r >> (8 * i) & 0xFF) << 8); return (f32)h; }
    default: return 0;
  }
}
int per_register(Element kind) {
  switch (kind) {
    case Element::tf32: return 1;
    case Element::f16: case Element::bf16: return 2;
    default: return 4;
  }
}

f64 sum_of(Accumulator kind, const u32* c, int i) {
  if (kind == Accumulator::f32) return bits<f32>(c[i]);
  if (kind == Accumulator::s32) return (s32)c[i];
  return element(Element::f16, c[i / 2], i & 1);
}
void set_sum(Accumulator kind, u32* d, int i, f64 value, bool saturate) {
  if (kind == Accumulator::f32) d[i] = bits<u32>((f32)value);
  else if (kind == Accumulator::s32) d[i] = saturate ? (u32)clamped<s32, f64>(value) : (u32)(s64)value;
  else {
    const int shift = 16 * (i & 1);
    d[i / 2] = (d[i / 2] & ~(0xFFFFu << shift)) | (u32)f16(value).pattern << shift;
  }
}

struct Matrices { u32* registers; const u32* from; u8* rows[32]; u64 address; int count, site; bool transposed; };

void rows_of(void** all, int count) {
  for (int m = 0; m < count; m++) {
    int in_bank[8] = {}, most = 0;
    const int site = ((Matrices*)all[0])->site;
    for (int l = 0; l < 8; l++)
      most = std::max(most, ++in_bank[((Matrices*)all[m * 8 + l])->address >> 4 & 7]);
    counts.ldmatrix_phases++;
    counts.ldmatrix_extra += most - 1;
    extra_passes[site] += most - 1;
  }
}

}  // namespace

void load_matrices(int site, u32* to, u64 address, int count, bool transposed) {
  Matrices mine{to, nullptr, {}, address, count, site, transposed};
  if ((int)lane() < 8 * count) mine.rows[0] = find_shared(site, address, 16, 16);
  meet(site, ~0u, "ldmatrix", true, &mine, [](void** all, u32) {
    const int count = ((Matrices*)all[0])->count;
    rows_of(all, count);
    for (int l = 0; l < 32; l++)
      for (int m = 0; m < count; m++) {
        u16 halves[2];
        for (int e = 0; e < 2; e++) {
          const bool t = ((Matrices*)all[l])->transposed;
          const int row = t ? (l & 3) * 2 + e : l / 4, column = t ? l / 4 : (l & 3) * 2 + e;
          halves[e] = load<u16>(((Matrices*)all[m * 8 + row])->rows[0] + 2 * column);
        }
        memcpy(&((Matrices*)all[l])->registers[m], halves, 4);
      }
  });
}

void store_matrices(int site, u64 address, const u32* from, int count, bool transposed) {
  Matrices mine{nullptr, from, {}, address, count, site, transposed};
  if ((int)lane() < 8 * count) mine.rows[0] = find_shared(site, address, 16, 16);
  meet(site, ~0u, "stmatrix", true, &mine, [](void** all, u32) {
    const int count = ((Matrices*)all[0])->count;
    rows_of(all, count);
    for (int l = 0; l < 32; l++)
      for (int m = 0; m < count; m++)
        for (int e = 0; e < 2; e++) {
          const Matrices& mine = *(Matrices*)all[l];
          const int row = mine.transposed ? (l & 3) * 2 + e : l / 4;
          const int column = mine.transposed ? l / 4 : (l & 3) * 2 + e;
          store<u16>(((Matrices*)all[m * 8 + row])->rows[0] + 2 * column, (u16)(mine.from[m] >> (16 * e)));
        }
  });
}

// --- mma.sync m16n8k* -------------------------------------------------------------------------------
// Lane l has group g = l / 4 and t = l % 4. With E elements a register, register r of A holds row
// g + 8 (r % 2), columns 4 E (r / 2) + t E + e; register r of B holds rows 4 E r + t E + e, column g;
// C and D hold rows g and g + 8, columns 2 t and 2 t + 1.
namespace {
struct Product {
  int k;
  Element a, b;
  Accumulator sum;
  u32* d;
  const u32 *ra, *rb, *c;
  bool saturate;
};
}  // namespace

void multiply(int site, int k, Element a, Element b, Accumulator sum, u32* d, const u32* ra, const u32* rb,
              const u32* c, bool saturate) {
  Product mine{k, a, b, sum, d, ra, rb, c, saturate};
  meet(site, ~0u, "mma", true, &mine, [](void** all, u32) {
    counts.matrix_multiplications++;
    const Product& first = *(Product*)all[0];
    const int k = first.k, e_n = per_register(first.a), groups = k / (4 * e_n);
    static f64 A[16][32], B[8][32];
    for (int l = 0; l < 32; l++) {
      const Product& p = *(Product*)all[l];
      const int g = l / 4, t = l % 4;
      for (int j = 0; j < groups; j++)
        for (int e = 0; e < e_n; e++) {
          const int column = 4 * e_n * j + t * e_n + e;
          A[g][column] = element(p.a, p.ra[2 * j], e);
          A[g + 8][column] = element(p.a, p.ra[2 * j + 1], e);
          B[g][column] = element(p.b, p.rb[j], e);
        }
    }
    for (int l = 0; l < 32; l++) {
      const Product& p = *(Product*)all[l];
      const int g = l / 4, t = l % 4;
      u32 d[4] = {};
      for (int i = 0; i < 4; i++) {
        const f64 *row = A[g + 8 * (i / 2)], *column = B[2 * t + (i & 1)];
        f64 s = sum_of(p.sum, p.c, i);
        for (int x = 0; x < k; x++) s += row[x] * column[x];
        set_sum(p.sum, d, i, s, p.saturate);
      }
      memcpy(p.d, d, p.sum == Accumulator::f16 ? 8 : 16);
    }
  });
}

// mma.sync m8n8k4 of doubles: A one element a lane, row l / 4, column l % 4; B row l % 4, column l / 4.
namespace {
struct Doubles { f64* d; f64 a, b, c[2]; };
}
void multiply_f64(int site, f64* d, const f64* ra, const f64* rb, const f64* c) {
  Doubles mine{d, ra[0], rb[0], {c[0], c[1]}};
  meet(site, ~0u, "mma", true, &mine, [](void** all, u32) {
    counts.matrix_multiplications++;
    for (int l = 0; l < 32; l++)
      for (int i = 0; i < 2; i++) {
        f64 s = ((Doubles*)all[l])->c[i];
        for (int x = 0; x < 4; x++)
          s += ((Doubles*)all[l / 4 * 4 + x])->a * ((Doubles*)all[(2 * (l % 4) + i) * 4 + x])->b;
        ((Doubles*)all[l])->d[i] = s;
      }
  });
}

// --- wgmma ------------------------------------------------------------------------------------------
// The accumulators change when the instruction is issued, because PTX from a compiler copies them
// between registers while the product is in flight (ptxas renames the copies away). What must not
// happen in between is checked instead: that anything else reads them before the wait, and that
// the operands in shared memory change before it.
namespace {

struct Flight {
  std::vector<u32> operands;  // as they were at the issue
  Wgmma w;
  int site;
};
struct Warpgroup {
  std::vector<Flight> open;
  std::deque<std::vector<Flight>> groups;
};
std::vector<Warpgroup> warpgroups;

struct Descriptor {
  u32 start, leading, stride, swizzle;  // bytes; the row of a swizzle: 128, 64, 32, or 0 for none
  Descriptor(int site, u64 d) {
    start = (u32)(d & 0x3FFF) << 4;
    leading = (u32)(d >> 16 & 0x3FFF) << 4;
    stride = (u32)(d >> 32 & 0x3FFF) << 4;
    const u32 mode = (u32)(d >> 62);
    swizzle = mode == 0 ? 0 : 256u >> mode;
    if (d >> 49 & 7) fail(Finding::tensor, site, "a wgmma descriptor with a base offset, which is not emulated");
  }
};

// Where element `k` of row `mn` of an operand lies. K-major: rows of `swizzle` bytes along k, eight
// of them a pattern, patterns `stride` apart. MN-major: rows along mn, eight k a pattern.
u32 place(const Descriptor& d, bool mn_major, u32 mn, u32 k, u32 size) {
  u32 at;
  if (!mn_major) {
    if (d.swizzle == 0) at = mn / 8 * d.stride + k * size / 16 * d.leading + mn % 8 * 16 + k * size % 16;
    else at = mn / 8 * d.stride + mn % 8 * d.swizzle + k * size;
  } else {
    const u32 row = (d.swizzle ? d.swizzle : 16) / size;
    if (d.swizzle == 0) at = mn / row * d.stride + k / 8 * d.leading + k % 8 * 16 + mn % row * size;
    else at = mn / row * d.leading + k / 8 * d.stride + k % 8 * d.swizzle + mn % row * size;
  }
  at += d.start;
  if (d.swizzle == 128) at ^= (at >> 7 & 7) << 4;
  else if (d.swizzle == 64) at ^= (at >> 7 & 3) << 4;
  else if (d.swizzle == 32) at ^= (at >> 7 & 1) << 4;
  return at;
}

u32 raw(int site, const Descriptor& d, bool mn_major, u32 mn, u32 k, u32 size) {
  const u8* at = find_shared(site, place(d, mn_major, mn, k, size), size, size);
  return size == 4 ? load<u32>(at) : size == 2 ? load<u16>(at) : *at;
}

std::vector<u32> operands_of(int site, const Wgmma& w) {
  const u32 size = 4 / per_register(w.a);
  std::vector<u32> all;
  if (!w.fragment) {
    Descriptor a(site, w.descriptor_a);
    for (int m = 0; m < 64; m++) for (int k = 0; k < w.k; k++) all.push_back(raw(site, a, w.transpose_a, m, k, size));
  }
  Descriptor b(site, w.descriptor_b);
  for (int n = 0; n < w.n; n++) for (int k = 0; k < w.k; k++) all.push_back(raw(site, b, w.transpose_b, n, k, size));
  return all;
}

struct Issued { const Wgmma* w; int site; };

Warpgroup& team() { return warpgroups[thread_number / 128]; }

void issue(void** all, u32) {
  counts.matrix_multiplications++;
  const Wgmma& w = *((Issued*)all[0])->w;
  const int site = ((Issued*)all[0])->site;
  for (int l = 1; l < 128; l++) {
    const Wgmma& other = *((Issued*)all[l])->w;
    if (other.descriptor_b != w.descriptor_b || (!w.fragment && other.descriptor_a != w.descriptor_a) ||
        other.add != w.add)
      fail(Finding::tensor, site, "wgmma: threads of the warpgroup give different descriptors or scales");
  }
  std::vector<u32> read = operands_of(site, w);
  static f64 A[64][32], B[256][32];
  const int e_n = per_register(w.a);
  size_t next = 0;
  if (!w.fragment)
    for (int m = 0; m < 64; m++) for (int k = 0; k < w.k; k++) A[m][k] = w.negate_a * element(w.a, read[next++], 0);
  else
    for (int l = 0; l < 128; l++)
      for (int r = 0; r < 4; r++)
        for (int e = 0; e < e_n; e++)
          A[l / 32 * 16 + l % 32 / 4 + 8 * (r & 1)][4 * e_n * (r / 2) + l % 4 * e_n + e] =
              w.negate_a * element(w.a, ((Issued*)all[l])->w->fragment[r], e);
  for (int n = 0; n < w.n; n++) for (int k = 0; k < w.k; k++) B[n][k] = w.negate_b * element(w.b, read[next++], 0);
  for (int l = 0; l < 128; l++) {
    u32* d = ((Issued*)all[l])->w->d;
    for (int i = 0; i < w.n / 2; i++) {
      const int row = l / 32 * 16 + l % 32 / 4 + 8 * (i / 2 & 1), column = i / 4 * 8 + l % 4 * 2 + (i & 1);
      f64 s = w.add ? sum_of(w.sum, d, i) : 0;
      for (int k = 0; k < w.k; k++) s += A[row][k] * B[column][k];
      set_sum(w.sum, d, i, s, false);
    }
  }
  Wgmma copy = w;
  team().open.push_back({late ? std::move(read) : std::vector<u32>(), copy, site});
}

void complete(Flight& f, int site) {
  if (f.operands.empty()) return;
  if (operands_of(f.site, f.w) != f.operands)
    fail(Finding::tensor, site,
         "shared memory that the wgmma of %s reads was changed before this wait for it", line_of(f.site));
}

struct Waited { int site; u32 most; };

}  // namespace

void begin_wgmma(u32 count) { warpgroups.assign((count + 127) / 128, Warpgroup()); }

void wgmma_fence(int site) { meet_warpgroup(site, "wgmma.fence", nullptr, [](void**, u32) {}); }

void wgmma(int site, const Wgmma& w) {
  Issued mine{&w, site};
  meet_warpgroup(site, "wgmma", &mine, issue);
}

void wgmma_commit(int site) {
  meet_warpgroup(site, "wgmma.commit_group", nullptr, [](void**, u32) {
    team().groups.push_back(std::move(team().open));
    team().open.clear();
  });
}

void wgmma_wait(int site, u32 most) {
  Waited mine{site, most};
  meet_warpgroup(site, "wgmma.wait_group", &mine, [](void** all, u32) {
    const Waited& w = *(Waited*)all[0];
    auto& groups = team().groups;
    while (groups.size() > w.most) {
      for (Flight& f : groups.front()) complete(f, w.site);
      groups.pop_front();
    }
  });
}

void accumulator_read(int site, int name) {
  auto check = [&](const std::vector<Flight>& flights) {
    for (const Flight& f : flights)
      if (f.w.name == name)
        fail(Finding::tensor, site, "an accumulator of the wgmma of %s is read before the wait for it", line_of(f.site));
  };
  for (auto& group : team().groups) check(group);
  check(team().open);
}

void check_wgmma_at_end() {
  for (Warpgroup& g : warpgroups) {
    if (!g.open.empty()) fail(Finding::tensor, g.open[0].site, "a wgmma that is never committed");
    for (auto& group : g.groups)
      if (!group.empty()) fail(Finding::tensor, group[0].site, "a wgmma that is never waited for");
  }
}

}  // namespace emulator
