// Copies that happen later: cp.async, mbarriers, bulk copies and those by tensor maps.
//
// Late, a copy happens when its wait says that it must have (cp.async), or when all threads wait and
// the oldest one must be what they wait for (those that an mbarrier counts); its destination is
// poisoned at the issue. Early, it happens at the issue. A right kernel cannot tell.
#include <algorithm>

#include "block.h"

namespace emulator {

void begin_wgmma(u32 count);

namespace {

struct Delivery { std::function<void()> perform; };
std::deque<Delivery> in_flight;  // counted by mbarriers

void perform(const Copy& c) {
  if (c.bytes) memcpy(c.to, c.from, c.bytes);
  memset(c.to + c.bytes, 0, c.size - c.bytes);
}

}  // namespace

void begin_copies() {
  in_flight.clear();
  begin_wgmma((u32)threads.size());
}

bool deliver_one() {
  if (in_flight.empty()) return false;
  Delivery d = std::move(in_flight.front());
  in_flight.pop_front();
  d.perform();
  progress++;
  return true;
}

// --- cp.async ---------------------------------------------------------------------------------------
void copy_async(int site, u64 to, u64 from, u32 size, u32 bytes) {
  if (bytes > size) fail(Finding::copy, site, "cp.async of %u bytes out of %u", bytes, size);
  u8* place = at_shared(site, to, size, size, write);
  if (from % size) fail(Finding::global_access, site, "cp.async: the global address is no multiple of %u", size);
  const u8* source = bytes ? at_global(site, from, bytes, 1, read) : nullptr;
  counts.asynchronous_copies++;
  Copy c{place, source, size, bytes};
  if (late) memset(place, 0xFF, size);
  else perform(c);
  thread->open.push_back(c);
  thread->site = site;
}

void copy_commit() {
  thread->groups.push_back(std::move(thread->open));
  thread->open.clear();
}

void copy_wait(u32 most) {
  while (thread->groups.size() > most) {
    if (late) for (const Copy& c : thread->groups.front()) perform(c);
    thread->groups.pop_front();
  }
}

void copy_wait_all() {
  copy_commit();
  copy_wait(0);
}

void check_copies_at_end(Thread& t) {
  if (!t.open.empty()) fail(Finding::copy, t.site, "cp.async issued but never committed");
  if (!t.bulk_open.empty()) fail(Finding::copy, t.site, "a bulk store issued but never committed");
  for (auto& group : t.bulk_groups)
    if (!group.empty()) fail(Finding::copy, t.site, "a bulk store that is not waited for before the thread ends");
}

// --- mbarrier ---------------------------------------------------------------------------------------
namespace {

struct Mbarrier {
  u64 pending : 20, expected : 20, phase : 1;
  s64 bytes : 21;  // awaited; below zero where they come before they are expected
  u64 magic : 2;
};
static_assert(sizeof(Mbarrier) == 8, "an mbarrier has 64 bits");
const u64 MAGIC = 1;

Mbarrier read_mbarrier(int site, u64 at) {
  Mbarrier m = load<Mbarrier>(find_shared(site, at, 8, 8));
  if (m.magic != MAGIC)
    fail(Finding::mbarrier, site, "the mbarrier at byte %u of shared memory is not initialised, or was overwritten",
         (u32)at - SHARED_BASE);
  return m;
}

void write_mbarrier(int site, u64 at, Mbarrier m) {
  if (m.pending == 0 && m.bytes == 0) {
    m.phase ^= 1;
    m.pending = m.expected;
    for (Thread& t : threads)
      if (t.state == State::waiting && t.barrier_offset == (u32)at && t.barrier_parity != (u32)m.phase) wake(t);
  }
  store(find_shared(site, at, 8, 8), m);
  progress++;
}

u64 arrive_at(int site, u64 at, u32 count, u32 bytes, bool drop) {
  Mbarrier m = read_mbarrier(site, at), before = m;
  m.bytes += bytes;
  if (m.pending < count)
    fail(Finding::mbarrier, site, "%u arrivals at an mbarrier whose phase awaits %u", count, (u32)m.pending);
  m.pending -= count;
  if (drop) m.expected -= count;
  write_mbarrier(site, at, m);
  return bits<u64>(before);
}

// Bytes have come.
void bytes_came(int site, u64 at, u32 bytes) {
  Mbarrier m = read_mbarrier(site, at);
  m.bytes -= bytes;
  write_mbarrier(site, at, m);
}

void send(int site, u64 barrier, u32 bytes, std::function<void()> copy) {
  read_mbarrier(site, barrier);
  counts.asynchronous_copies++;
  auto perform = [=] {
    copy();
    bytes_came(site, barrier, bytes);
  };
  if (late) in_flight.push_back({perform});
  else perform();
}

}  // namespace

void mbarrier_init(int site, u64 at, u32 count) {
  if (count == 0 || count >= 1u << 20) fail(Finding::mbarrier, site, "an mbarrier of %u arrivals", count);
  Mbarrier m{};
  m.pending = m.expected = count;
  m.magic = MAGIC;
  store(find_shared(site, at, 8, 8), m);
}

void mbarrier_invalidate(int site, u64 at) {
  read_mbarrier(site, at);
  memset(find_shared(site, at, 8, 8), 0xFF, 8);
}

u64 mbarrier_arrive(int site, u64 at, u32 count, u32 bytes) { return arrive_at(site, at, count, bytes, false); }
u64 mbarrier_drop(int site, u64 at, u32 count, u32 bytes) { return arrive_at(site, at, count, bytes, true); }
void mbarrier_expect(int site, u64 at, u32 bytes) {
  Mbarrier m = read_mbarrier(site, at);
  m.bytes += bytes;
  write_mbarrier(site, at, m);
}

// True when the phase of this parity is over. `wait_for_it`: not before, but a device may give up at
// any time. Late, it does so once: what does not try again shows.
bool mbarrier_test(int site, u64 at, u32 parity, bool wait_for_it) {
  if (parity > 1) fail(Finding::mbarrier, site, "parity %u; it is 0 or 1", parity);
  if (read_mbarrier(site, at).phase != parity) {
    thread->gave_up = false;
    return true;
  }
  thread->site = site;
  if (!wait_for_it) {
    thread->state = State::spinning;
    thread->waits_for = "a test of an mbarrier";
    suspend();
    return !late && read_mbarrier(site, at).phase != parity;
  }
  if (late && !thread->gave_up) return !(thread->gave_up = true);
  thread->gave_up = false;
  while (read_mbarrier(site, at).phase == parity) {
    thread->barrier_offset = (u32)at;
    thread->barrier_parity = parity;
    wait(site, "an mbarrier");
    thread->barrier_offset = 0;
  }
  return true;
}

// The arrival that cp.async.mbarrier.arrive promises once the thread's copies are there.
void copy_arrive(int site, u64 at, bool expected) {
  std::vector<Copy> copies;
  for (auto& group : thread->groups) copies.insert(copies.end(), group.begin(), group.end());
  copies.insert(copies.end(), thread->open.begin(), thread->open.end());
  thread->open.clear();
  thread->groups.clear();
  Mbarrier m = read_mbarrier(site, at);
  if (!expected) m.pending++;  // it makes up for its own arrival
  store(find_shared(site, at, 8, 8), m);
  auto perform_all = [=] {
    for (const Copy& c : copies) perform(c);
    arrive_at(site, at, 1, 0, false);
  };
  if (late) in_flight.push_back({perform_all});
  else perform_all();
}

// --- bulk copies ------------------------------------------------------------------------------------
void bulk_load(int site, u64 to, u64 from, u32 bytes, u64 barrier) {
  if (bytes % 16) fail(Finding::copy, site, "a bulk copy of %u bytes, which is no multiple of 16", bytes);
  u8* place = find_shared(site, to, bytes, 16);
  const u8* source = find_global(site, from, bytes, 16, read);
  if (late) memset(place, 0xFF, bytes);
  send(site, barrier, bytes, [=] { memcpy(place, source, bytes); });
}

namespace {
void store_later(std::function<void()> f) {
  counts.asynchronous_copies++;
  if (!late) f(), f = [] {};
  thread->bulk_open.push_back({f});
}
}  // namespace

void bulk_store(int site, u64 to, u64 from, u32 bytes) {
  if (bytes % 16) fail(Finding::copy, site, "a bulk copy of %u bytes, which is no multiple of 16", bytes);
  u8* place = find_global(site, to, bytes, 16, write);
  const u8* source = find_shared(site, from, bytes, 16);
  thread->site = site;
  store_later([=] { memcpy(place, source, bytes); });
}

void bulk_commit() {
  thread->bulk_groups.push_back(std::move(thread->bulk_open));
  thread->bulk_open.clear();
}

void bulk_wait(u32 most) {
  while (thread->bulk_groups.size() > most) {
    for (Bulk& b : thread->bulk_groups.front()) b.perform();
    thread->bulk_groups.pop_front();
  }
}

// --- tensor maps ------------------------------------------------------------------------------------
// In step with tensor_maps.py, which writes these 128 bytes in the place of the driver's.
namespace {

struct TensorMap {
  u64 magic, base;
  s64 strides[4];   // bytes, of dimensions 1 and up
  u32 extents[5];
  u16 box[5];       // tiled: elements of each dimension; im2col: channels and pixels
  s16 lower[3], upper[3];
  u8 rank, element_bytes, swizzle, im2col, steps[5];
  u8 unused[29];
};
static_assert(sizeof(TensorMap) == 128, "a tensor map has 128 bytes");
const u64 MAP_MAGIC = 0x70614D726F736E54ull;  // "TnsorMap"

TensorMap map_at(int site, u64 address, int rank, bool im2col) {
  if (address % 64) fail(Finding::tensor, site, "a tensor map at an address that is no multiple of 64");
  TensorMap m = load<TensorMap>(find_global(site, address, 128, 64, read));
  if (m.magic != MAP_MAGIC)
    fail(Finding::tensor, site, "these 128 bytes are no tensor map of convforge.testing.emulator.tensor_maps");
  if (m.rank != rank || m.im2col != im2col)
    fail(Finding::tensor, site, "the tensor map is %s of %u dimensions, the instruction %s of %d",
         m.im2col ? "im2col" : "tiled", m.rank, im2col ? "im2col" : "tiled", rank);
  return m;
}

// Shared memory of a box, `offset` bytes into it; 16-byte chunks change places by the swizzle.
u64 swizzled(const TensorMap& m, u64 start, u64 offset) {
  u64 at = start + offset;
  if (m.swizzle == 3) at ^= (at >> 7 & 7) << 4;
  else if (m.swizzle == 2) at ^= (at >> 7 & 3) << 4;
  else if (m.swizzle == 1) at ^= (at >> 7 & 1) << 4;
  return at;
}

void check_start(int site, const TensorMap& m, u64 start, u32 bytes) {
  const u32 alignment = m.swizzle ? 128u << m.swizzle : 128;
  find_shared(site, start, bytes, alignment);
}

bool inside(const TensorMap& m, const s64* at) {
  for (int i = 0; i < m.rank; i++) if (at[i] < 0 || at[i] >= (s64)m.extents[i]) return false;
  return true;
}

u64 address_of(const TensorMap& m, const s64* at) {
  u64 address = m.base + at[0] * m.element_bytes;
  for (int i = 1; i < m.rank; i++) address += at[i] * m.strides[i - 1];
  return address;
}

// Calls f(offset in the box, coordinates) for every element of a tile.
template <class F> void for_box(const TensorMap& m, const s32* position, F f) {
  s64 at[5];
  u32 count = 1, steps[5] = {};
  for (int i = 0; i < m.rank; i++) count *= m.box[i];
  for (u32 n = 0; n < count; n++) {
    for (int i = 0; i < m.rank; i++) at[i] = (s64)position[i] + (s64)steps[i] * m.steps[i];
    f(n * m.element_bytes, at);
    for (int i = 0; i < m.rank && ++steps[i] == m.box[i]; i++) steps[i] = 0;
  }
}

u32 box_bytes(const TensorMap& m) {
  u32 bytes = m.element_bytes;
  for (int i = 0; i < m.rank; i++) bytes *= m.box[i];
  return bytes;
}

void fetch(int site, const TensorMap& m, u64 to, u64 offset, const s64* at) {
  u8* place = find_shared(site, swizzled(m, to, offset), m.element_bytes, 1);
  if (inside(m, at)) memcpy(place, find_global(site, address_of(m, at), m.element_bytes, 1, read), m.element_bytes);
  else memset(place, 0, m.element_bytes);
}

}  // namespace

void tensor_load(int site, u64 to, u64 map, const s32* position, int rank, u64 barrier) {
  const TensorMap m = map_at(site, map, rank, false);
  const u32 bytes = box_bytes(m);
  check_start(site, m, to, bytes);
  std::vector<s32> start(position, position + rank);
  if (late) memset(find_shared(site, to, bytes, 16), 0xFF, bytes);
  send(site, barrier, bytes, [=] {
    for_box(m, start.data(), [&](u64 offset, const s64* at) { fetch(site, m, to, offset, at); });
  });
}

// A row of the tile is a pixel's channels; pixels follow each other along W, H, (D,) N within the box
// that the corners leave, and the offsets choose the filter's tap.
void tensor_load_im2col(int site, u64 to, u64 map, const s32* position, int rank, const u16* offsets, u64 barrier) {
  const TensorMap m = map_at(site, map, rank, true);
  const u32 channels = m.box[0], pixels = m.box[1], bytes = channels * pixels * m.element_bytes;
  check_start(site, m, to, bytes);
  std::vector<s32> start(position, position + rank);
  std::vector<u16> taps(offsets, offsets + rank - 2);
  if (late) memset(find_shared(site, to, bytes, 16), 0xFF, bytes);
  send(site, barrier, bytes, [=] {
    std::vector<s64> base(start.begin(), start.end());
    for (u32 p = 0; p < pixels; p++) {
      s64 at[5];
      for (u32 c = 0; c < channels; c++) {
        at[0] = base[0] + c;
        for (int i = 1; i < rank - 1; i++) at[i] = base[i] + taps[i - 1];
        at[rank - 1] = base[rank - 1];
        fetch(site, m, to, (p * channels + c) * m.element_bytes, at);
      }
      int i = 1;
      for (; i < rank - 1; i++) {
        base[i] += m.steps[i];
        if (base[i] < (s64)m.extents[i] + m.upper[i - 1]) break;
        base[i] = m.lower[i - 1];
      }
      if (i == rank - 1) base[i]++;
    }
  });
}

void tensor_store(int site, u64 map, const s32* position, int rank, u64 from) {
  const TensorMap m = map_at(site, map, rank, false);
  check_start(site, m, from, box_bytes(m));
  std::vector<s32> start(position, position + rank);
  thread->site = site;
  store_later([=] {
    for_box(m, start.data(), [&](u64 offset, const s64* at) {
      if (!inside(m, at)) return;
      memcpy(find_global(site, address_of(m, at), m.element_bytes, 1, write),
             find_shared(site, swizzled(m, from, offset), m.element_bytes, 1), m.element_bytes);
    });
  });
}

}  // namespace emulator
