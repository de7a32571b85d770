// What translated PTX calls. A library holds one kernel launch at a time, and its state is global.
//
// A site is the number of an instruction that touches memory or waits; `sites` has its PTX line.
#pragma once
#include "arithmetic.h"

namespace emulator {

// In step with `Kind` of report.py.
enum class Finding : int {
  none, shared_access, global_access, local_access, read_only, divergence, deadlock, copy, mbarrier,
  tensor, endless, assertion, launch,
};
[[noreturn]] void fail(Finding, int site, const char* format, ...) __attribute__((format(printf, 3, 4)));

struct Dim { u32 x, y, z; };

// --- what a translated module says of itself --------------------------------------------------------
struct Site { int line; };
struct Loop { int first, last; };  // sites between its head and the last branch back
struct Entry {
  const char* name;
  void (*run)(const u8* parameters);
  u32 parameter_bytes, shared_bytes;
  const u32* shared_offsets;  // of every shared variable of the module
};
struct Variable { u8* start; u64 bytes; bool writable; const u8* initial; };
extern const Site sites[];
extern const int site_count;
extern const Loop loops[];
extern const int loop_count;
extern const Entry entries[];
extern const Variable variables[];  // .global and .const ones
extern const int variable_count;
extern const u64 frame_bytes;       // more than any thread's registers and local arrays take

// --- the thread that runs ---------------------------------------------------------------------------
extern Dim thread_index, block_index, block_size, grid_size;
extern u32 thread_number;  // within its block
inline u32 lane() { return thread_number & 31; }
inline u32 warp() { return thread_number >> 5; }
u64 clock();
// Called at every backward branch: gives way from time to time, and ends endless loops.
void loop(int site, int number);
void finish_now();    // the instruction `exit`
void nothing(int site);
void assertion(int site);

// --- memory -----------------------------------------------------------------------------------------
// Shared addresses begin here, so that none of them is zero. A generic pointer to shared memory is the
// host's pointer into `shared`; global and local addresses are the host's as they are.
const u32 SHARED_BASE = 1024;
const u32 SHARED_WINDOW = 256 << 10;  // generic addresses that can only be meant for shared memory
extern u8* shared;
extern u32 shared_bytes;
extern const u32* shared_offsets;
enum Use : u8 { read = 0, write = 1 };

void count_shared(int site, u32 offset, u32 bytes);
void count_global(int site, u64 address, u32 bytes, Use use);
[[noreturn]] void bad_shared(int site, u64 address, u32 bytes, u32 alignment);
u8* find_global(int site, u64 address, u32 bytes, u32 alignment, Use use);  // checks, does not count
u8* at_local(int site, u64 address, u32 bytes, u32 alignment, Use use);
u8* at_generic(int site, u64 address, u32 bytes, u32 alignment, Use use);

inline u32 shared_variable(int i) { return SHARED_BASE + shared_offsets[i]; }
inline u64 shared_to_generic(u64 address) { return (u64)shared + (address - SHARED_BASE); }
inline u64 generic_to_shared(u64 address) { return address - (u64)shared + SHARED_BASE; }
inline bool is_shared(u64 address) { return address - (u64)shared < SHARED_WINDOW; }
bool is_local(u64 address);

inline u8* find_shared(int site, u64 address, u32 bytes, u32 alignment) {
  u64 offset = address - SHARED_BASE;  // a 64-bit address is not cut to the bits of the space
  if (offset >= shared_bytes || shared_bytes - offset < bytes || offset % alignment)
    bad_shared(site, address, bytes, alignment);
  return shared + offset;
}
inline u8* at_shared(int site, u64 address, u32 bytes, u32 alignment, Use) {
  u8* place = find_shared(site, address, bytes, alignment);
  count_shared(site, (u32)(place - shared), bytes);
  return place;
}
inline u8* at_global(int site, u64 address, u32 bytes, u32 alignment, Use use) {
  u8* place = find_global(site, address, bytes, alignment, use);
  count_global(site, address, bytes, use);
  return place;
}
inline u8* at_param(int, u64 address, u32, u32, Use) { return (u8*)address; }

template <class T> inline T load(const u8* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}
template <class T> inline void store(u8* to, T value) { memcpy(to, &value, sizeof value); }

// Local arrays of a function: poisoned, and known to the checks as long as the function runs.
struct Local {
  Local(u8* start, u32 bytes);
  ~Local();
};

template <class T> inline T increment(T old, T limit) { return old >= limit ? T(0) : T(old + 1); }
template <class T> inline T decrement(T old, T limit) {
  return old == 0 || old > limit ? limit : T(old - 1);
}

// --- collectives ------------------------------------------------------------------------------------
void warp_barrier(int site, u32 mask);
void barrier(int site, u32 id, u32 threads, bool aligned);  // threads == 0: the whole block
void barrier_arrive(int site, u32 id, u32 threads);
u32 barrier_count(int site, u32 id, u32 threads, bool predicate);
bool barrier_all(int site, u32 id, u32 threads, bool predicate);
bool barrier_any(int site, u32 id, u32 threads, bool predicate);
enum class Shuffle { up, down, butterfly, index };
u32 shuffle(int site, Shuffle mode, u32 value, u32 other, u32 clamp, u32 mask, bool& valid);
u32 ballot(int site, bool predicate, u32 mask);
bool vote_all(int site, bool predicate, u32 mask);
bool vote_any(int site, bool predicate, u32 mask);
bool vote_uniform(int site, bool predicate, u32 mask);
u32 match_any(int site, u64 value, u32 mask);
u32 match_all(int site, u64 value, u32 mask, bool& all);
enum class Reduce { add, min_u, max_u, min_s, max_s, bit_and, bit_or, bit_xor };
u32 reduce(int site, Reduce operation, u32 value, u32 mask);
bool elect(int site, u32 mask, u32& leader);
u32 active_mask();

// --- matrices ---------------------------------------------------------------------------------------
enum class Element { f16, bf16, tf32, s8, u8_, e4m3, e5m2, f64 };
enum class Accumulator { f32, f16, s32, f64 };
void load_matrices(int site, u32* to, u64 address, int count, bool transposed);
void store_matrices(int site, u64 address, const u32* from, int count, bool transposed);
void multiply(int site, int k, Element a, Element b, Accumulator sum, u32* d, const u32* ra, const u32* rb,
              const u32* c, bool saturate);
void multiply_f64(int site, f64* d, const f64* ra, const f64* rb, const f64* c);

// --- cp.async ---------------------------------------------------------------------------------------
void copy_async(int site, u64 to, u64 from, u32 size, u32 bytes);
void copy_commit();
void copy_wait(u32 most);
void copy_wait_all();
void copy_arrive(int site, u64 barrier, bool expected);

// --- mbarrier ---------------------------------------------------------------------------------------
void mbarrier_init(int site, u64 at, u32 count);
void mbarrier_invalidate(int site, u64 at);
u64 mbarrier_arrive(int site, u64 at, u32 count, u32 bytes);
u64 mbarrier_drop(int site, u64 at, u32 count, u32 bytes);
void mbarrier_expect(int site, u64 at, u32 bytes);
bool mbarrier_test(int site, u64 at, u32 parity, bool wait);
inline u32 mbarrier_parity(u64 state) { return (u32)(state >> 40) & 1; }
inline u32 mbarrier_pending(u64 state) { return (u32)state & 0xFFFFF; }

// --- bulk copies and tensor maps --------------------------------------------------------------------
void bulk_load(int site, u64 to, u64 from, u32 bytes, u64 barrier);
void bulk_store(int site, u64 to, u64 from, u32 bytes);
void tensor_load(int site, u64 to, u64 map, const s32* position, int rank, u64 barrier);
void tensor_load_im2col(int site, u64 to, u64 map, const s32* position, int rank, const u16* offsets,
                        u64 barrier);
void tensor_store(int site, u64 map, const s32* position, int rank, u64 from);
void bulk_commit();
void bulk_wait(u32 most);

// --- wgmma ------------------------------------------------------------------------------------------
struct Wgmma {
  int n, k;
  Element a, b;
  Accumulator sum;
  bool add;              // scale-d: false ignores what d held
  int negate_a, negate_b;  // -1 or 1
  bool transpose_a, transpose_b;
  const u32* fragment;   // of a in registers, or null
  u64 descriptor_a, descriptor_b;
  u32* d;
  int name;              // of the accumulator, for the check of what is read too early
};
void wgmma_fence(int site);
void wgmma(int site, const Wgmma&);
void wgmma_commit(int site);
void wgmma_wait(int site, u32 most);
void accumulator_read(int site, int name);

}  // namespace emulator
