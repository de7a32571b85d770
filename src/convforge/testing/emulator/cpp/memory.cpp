// Which addresses may be touched, and what touching them costs: bank conflicts, sectors.
#include <algorithm>

#include "block.h"

namespace emulator {

u8* shared;
u32 shared_bytes;
const u32* shared_offsets;
std::vector<u64> extra_passes;

namespace {

struct Region { u64 start, end; bool writable; };  // what the launch gave comes first
std::vector<Region> regions;
u64 given_regions;
size_t last_region;

const Region* region_of(u64 address) {
  if (last_region < regions.size() && address - regions[last_region].start <
                                          regions[last_region].end - regions[last_region].start)
    return &regions[last_region];
  for (size_t i = 0; i < regions.size(); i++)
    if (address >= regions[i].start && address < regions[i].end) {
      last_region = i;
      return &regions[i];
    }
  return nullptr;
}

// What lies nearest an address that no array holds: the likeliest to be meant.
[[noreturn]] void outside(int site, u64 address, u32 bytes) {
  const Region* near = nullptr;
  u64 distance = ~0ull;
  for (const Region& r : regions) {
    if (r.start == r.end) continue;
    u64 d = address >= r.end ? address - r.end : address < r.start ? r.start - address : 0;
    if (d < distance) distance = d, near = &r;
  }
  if (address < 4096)
    fail(Finding::global_access, site, "%u bytes at address %llu: a null pointer", bytes,
         (unsigned long long)address);
  if (!near)
    fail(Finding::global_access, site, "%u bytes outside every array: no memory was given", bytes);
  const u64 number = near - regions.data();
  const char* what = number < given_regions ? "memory" : number + 1 < regions.size() ? "variable" : "parameters";
  fail(Finding::global_access, site,
       "%u bytes outside every array; the nearest is %s[%llu] of %llu bytes, and this is its byte %lld", bytes,
       what, (unsigned long long)(number < given_regions ? number : number + 1 < regions.size() ? number - given_regions : 0),
       (unsigned long long)(near->end - near->start), (long long)(address - near->start));
}

}  // namespace

void register_regions(const u64* given, u64 count, const u8* parameters, u64 parameter_bytes) {
  regions.clear();
  given_regions = count;
  last_region = 0;
  for (u64 i = 0; i < count; i++)
    regions.push_back({given[3 * i], given[3 * i] + given[3 * i + 1], given[3 * i + 2] != 0});
  for (int i = 0; i < variable_count; i++)
    regions.push_back({(u64)variables[i].start, (u64)variables[i].start + variables[i].bytes,
                       variables[i].writable});
  // Structures passed by value may be read through a generic pointer.
  regions.push_back({(u64)parameters, (u64)parameters + parameter_bytes, false});
}

void bad_shared(int site, u64 address, u32 bytes, u32 alignment) {
  u64 offset = address - SHARED_BASE;
  if (offset < shared_bytes && shared_bytes - offset >= bytes)
    fail(Finding::shared_access, site, "misaligned: %u bytes at byte %u of shared memory, not a multiple of %u",
         bytes, (u32)offset, alignment);
  if (address >> 32 == 0) offset = (u64)(s64)(s32)offset;  // it was computed in 32 bits
  fail(Finding::shared_access, site, "out of range: %u bytes at byte %lld of shared memory, which has %u",
       bytes, (long long)offset, shared_bytes);
}

u8* find_global(int site, u64 address, u32 bytes, u32 alignment, Use use) {
  const Region* r = region_of(address);
  if (!r || address + bytes > r->end) {
    if (is_shared(address))
      fail(Finding::global_access, site, "a generic pointer to shared memory used as a global address");
    outside(site, address, bytes);
  }
  if (use == write && !r->writable)
    fail(Finding::read_only, site, "a store into a read-only array, at its byte %llu",
         (unsigned long long)(address - r->start));
  if (address % alignment)
    fail(Finding::global_access, site, "misaligned: %u bytes at byte %llu of an array, address %% %u = %u", bytes,
         (unsigned long long)(address - r->start), alignment, (u32)(address % alignment));
  return (u8*)address;
}

bool is_local(u64 address) {
  for (const Range& r : thread->locals)
    if (address - r.start < r.bytes) return true;
  return false;
}

u8* at_local(int site, u64 address, u32 bytes, u32 alignment, Use) {
  for (const Range& r : thread->locals)
    if (address >= r.start && address + bytes <= r.start + r.bytes) {
      if (address % alignment) fail(Finding::local_access, site, "misaligned: %u bytes of local memory", bytes);
      return (u8*)address;
    }
  fail(Finding::local_access, site, "%u bytes outside every local array of the thread", bytes);
}

u8* at_generic(int site, u64 address, u32 bytes, u32 alignment, Use use) {
  if (is_shared(address)) return at_shared(site, generic_to_shared(address), bytes, alignment, use);
  if (is_local(address)) return at_local(site, address, bytes, alignment, use);
  return at_global(site, address, bytes, alignment, use);
}

Local::Local(u8* start, u32 bytes) {
  memset(start, 0xFF, bytes);
  thread->locals.push_back({(u64)start, bytes});
}
Local::~Local() {
  if (!thread->locals.empty()) thread->locals.pop_back();
}

// --- counting ---------------------------------------------------------------------------------------
// Lanes of a warp run one after another here, so a warp's request is put together again: of lanes
// that come to an instruction in the same iterations of the loops around it, between the same two
// barriers of the block. In functions that are called in several places, also of the same call.
namespace {

struct Request {
  u64 iteration;
  u32 lanes = 0, bytes = 0;
  bool shared = false;
  u64 address[32];
};

std::vector<std::vector<std::vector<Request>>> requests;  // by warp, site, in order of appearance
std::vector<std::vector<int>> loops_around, loops_within;  // by site, by loop

void know_loops() {
  if (!loops_around.empty()) return;
  loops_around.resize(site_count + 1);
  loops_within.resize(loop_count);
  for (int i = 0; i < loop_count; i++) {
    for (int s = loops[i].first; s <= loops[i].last; s++) loops_around[s].push_back(i);
    for (int j = 0; j < loop_count; j++)
      if (i != j && loops[i].first <= loops[j].first && loops[j].last <= loops[i].last) loops_within[i].push_back(j);
  }
}

void count(int site, u64 address, u32 bytes, bool shared) {
  u64 iteration = 0;
  for (int loop : loops_around[site]) iteration = (iteration ^ thread->iterations[loop]) * 0x9E3779B97F4A7C15ull + 1;
  auto& all = requests[warp()][site];
  const u32 likely = thread->requests[site];
  auto fits = [&](u32 i) { return all[i].iteration == iteration && !(all[i].lanes >> lane() & 1); };
  u32 n = likely;
  while (n < all.size() && !fits(n)) n++;
  if (n == all.size())
    for (n = 0; n < likely && n < all.size() && !fits(n);) n++;
  if (n == all.size() || !fits(n)) {
    n = (u32)all.size();
    all.emplace_back();
    all[n].iteration = iteration;
  }
  thread->requests[site] = n + 1;
  Request& r = all[n];
  r.lanes |= 1u << lane();
  r.bytes = bytes;
  r.shared = shared;
  r.address[lane()] = address;
}

// Passes over the 32 banks of 4 bytes: as many lanes at a time as take 128 bytes, and as often as
// different words of one bank are asked for.
void pass_shared(int site, const Request& r) {
  const u32 at_once = r.bytes <= 4 ? 32 : 128 / r.bytes;
  u64 ideal = 0, taken = 0;
  for (u32 first = 0; first < 32; first += at_once) {
    u32 words[32][32], in_bank[32] = {}, most = 0;
    for (u32 l = first; l < first + at_once; l++) {
      if (!(r.lanes >> l & 1)) continue;
      for (u32 b = 0; b < (r.bytes + 3) / 4; b++) {
        u32 word = (u32)(r.address[l] / 4) + b, bank = word % 32, i = 0;
        while (i < in_bank[bank] && words[bank][i] != word) i++;
        if (i == in_bank[bank] && i < 32) words[bank][in_bank[bank]++] = word;
        most = std::max(most, in_bank[bank]);
      }
    }
    if (most) ideal++, taken += most;
  }
  counts.shared_requests++;
  counts.shared_passes += taken;
  counts.shared_extra_passes += taken - ideal;
  extra_passes[site] += taken - ideal;
}

// Sectors of 32 bytes that a warp's request touches.
void pass_global(const Request& r) {
  u64 sectors[32 * 2], n = 0, distinct = 0;
  for (u32 l = 0; l < 32; l++)
    if (r.lanes >> l & 1)
      for (u64 s = r.address[l] / 32; s <= (r.address[l] + r.bytes - 1) / 32 && n < 64; s++) sectors[n++] = s;
  std::sort(sectors, sectors + n);
  distinct = std::unique(sectors, sectors + n) - sectors;
  counts.global_requests++;
  counts.global_sectors += distinct;
}

}  // namespace

void count_shared(int site, u32 offset, u32 bytes) { count(site, offset, bytes, true); }
void count_global(int site, u64 address, u32 bytes, Use) { count(site, address, bytes, false); }

// Of a loop: those within it begin anew.
void count_iteration(int loop) {
  thread->iterations[loop]++;
  for (int inner : loops_within[loop]) thread->iterations[inner] = 0;
}

void begin_counts(u32 threads) {
  know_loops();
  requests.resize((threads + 31) / 32);
  for (auto& warp : requests) {
    warp.resize(site_count);
    for (auto& site : warp) site.clear();
  }
}

void flush_counts() {
  for (auto& warp : requests)
    for (int site = 0; site < site_count; site++) {
      for (const Request& r : warp[site]) {
        if (!r.lanes) continue;
        if (r.shared) pass_shared(site, r);
        else pass_global(r);
      }
      warp[site].clear();
    }
  for (Thread& t : threads) std::fill(t.requests.begin(), t.requests.end(), 0);
}

}  // namespace emulator
