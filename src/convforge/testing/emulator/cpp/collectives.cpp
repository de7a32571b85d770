// Barriers of the block, and what the lanes of a warp do together.
#include <algorithm>
#include <string>

#include "block.h"

namespace emulator {

namespace {

// --- barriers of the block --------------------------------------------------------------------------
struct Barrier {
  u32 expected = 0, arrived = 0, votes = 0;
  int any_site = -1;
  std::vector<int> sites;     // by warp: the instruction that its first thread came to
  std::vector<u32> waiting;   // threads
};
struct Votes { u32 threads, yes; };
Barrier barriers[17];  // the last one is the cluster's
Votes outcome[17];  // of the last barrier of each number

void arrive(int site, u32 id, u32 count, bool aligned, bool vote) {
  if (id > 16) fail(Finding::divergence, site, "barrier %u; there are 0 to 15", id);
  const u32 all = (u32)threads.size();
  if (count == 0) count = all;
  else if (count % 32 || count > (all + 31) / 32 * 32)
    fail(Finding::divergence, site, "barrier %u for %u threads, in a block of %u", id, count, all);
  count = std::min(count, all);
  Barrier& b = barriers[id];
  if (b.arrived == 0) {
    b.expected = count;
    b.votes = 0;
    b.any_site = site;
    b.sites.assign((all + 31) / 32, -1);
  }
  if (b.expected != count)
    fail(Finding::divergence, site, "barrier %u for %u threads here, for %u at %s", id, count, b.expected,
         line_of(b.any_site));
  int& first = b.sites[warp()];
  if (aligned && first >= 0 && first != site)
    fail(Finding::divergence, site, "divergent barrier: other lanes of warp %u wait at %s", warp(),
         line_of(first));
  first = site;
  b.votes += vote;
  b.arrived++;
  progress++;
  if (b.arrived < b.expected) return;
  if (count == all) flush_counts();
  counts.block_barriers++;
  outcome[id] = {b.expected, b.votes};
  b.arrived = 0;
  for (u32 i : b.waiting) wake(threads[i]);
  b.waiting.clear();
}

Votes synchronise(int site, u32 id, u32 count, bool aligned, bool vote) {
  arrive(site, id, count, aligned, vote);
  Barrier& b = barriers[id];
  if (b.arrived) {
    b.waiting.push_back(thread_number);
    wait(site, "the barrier");
  }
  return outcome[id];
}

// --- meetings of lanes ------------------------------------------------------------------------------
std::vector<Meeting> meetings;  // by thread

bool finished(u32 number) {
  return number >= threads.size() || threads[number].state == State::finished;
}

// Runs the meeting of `member` if all are there. Exited lanes need not come, unless it is aligned.
bool try_meeting(u32 first, u32 member, u32 width) {
  Meeting& m = meetings[first + member];
  void* arguments[128];
  u32 lanes = 0;
  for (u32 i = 0; i < width; i++) {
    arguments[i] = nullptr;
    if (!(width == 128 || m.mask >> i & 1) || first + i >= threads.size()) continue;
    Meeting& other = meetings[first + i];
    if (!other.here) {
      if (!m.aligned && finished(first + i)) continue;
      return false;
    }
    if (other.what != m.what || other.mask != m.mask) {
      if (width == 128 || other.mask >> member & 1)
        fail(Finding::divergence, m.site,
             "thread %u is at %s (%s, mask %08x) and thread %u at %s (%s, mask %08x): they wait for each other",
             first + member, line_of(m.site), (const char*)m.what, m.mask, first + i, line_of(other.site),
             (const char*)other.what, other.mask);
      return false;
    }
    if (m.aligned && other.site != m.site)
      fail(Finding::divergence, m.site, "divergent %s: thread %u is at %s, thread %u at %s", (const char*)m.what,
           first + member, line_of(m.site), first + i, line_of(other.site));
    arguments[i] = other.argument;
    if (width == 32) lanes |= 1u << i;
  }
  m.act(arguments, lanes);
  const u32 mask = m.mask;
  for (u32 i = 0; i < width; i++)
    if ((width == 128 || mask >> i & 1) && arguments[i]) {
      meetings[first + i].here = false;
      wake(threads[first + i]);
    }
  return true;
}

u32 unused;  // an argument for those that have none

}  // namespace

void begin_collectives(u32 count) {
  for (Barrier& b : barriers) b = Barrier();
  meetings.assign(count, Meeting());
}

void meet_team(int site, u32 width, u32 mask, const char* what, bool aligned, void* argument,
               void (*act)(void**, u32)) {
  const u32 first = thread_number / width * width, member = thread_number % width;
  if (width == 32 && !(mask >> member & 1))
    fail(Finding::divergence, site, "lane %u executes %s with mask %08x, in which it is not", member, what, mask);
  meetings[thread_number] = {true, mask, what, site, aligned, argument ? argument : &unused, act};
  progress++;
  if (!try_meeting(first, member, width)) {
    const u32 me = thread_number;
    while (meetings[me].here) wait(site, what);
  }
}

void meet(int site, u32 mask, const char* what, bool aligned, void* argument, void (*act)(void**, u32)) {
  counts.warp_collectives++;
  const u32 first = thread_number / 32 * 32;
  if (aligned && threads.size() - first < 32) mask &= (1u << (threads.size() - first)) - 1;
  meet_team(site, 32, mask, what, aligned, argument, act);
}

void meet_warpgroup(int site, const char* what, void* argument, void (*act)(void**, u32)) {
  if (threads.size() - thread_number / 128 * 128 < 128)
    fail(Finding::divergence, site, "%s in a warpgroup of less than 128 threads", what);
  meet_team(site, 128, ~0u, what, true, argument, act);
}

void warp_thread_finished(Thread& t) {
  const u32 first = t.number / 32 * 32;
  for (u32 i = 0; i < 32 && first + i < threads.size(); i++)
    if (meetings[first + i].here && !meetings[first + i].aligned) try_meeting(first, i, 32);
}

void warp_barrier(int site, u32 mask) {
  meet(site, mask, "bar.warp.sync", false, nullptr, [](void**, u32) {});
}
void barrier(int site, u32 id, u32 count, bool aligned) { synchronise(site, id, count, aligned, false); }
void barrier_arrive(int site, u32 id, u32 count) { arrive(site, id, count, true, false); }
u32 barrier_count(int site, u32 id, u32 count, bool yes) { return synchronise(site, id, count, true, yes).yes; }
bool barrier_any(int site, u32 id, u32 count, bool yes) { return synchronise(site, id, count, true, yes).yes != 0; }
bool barrier_all(int site, u32 id, u32 count, bool yes) {
  Votes v = synchronise(site, id, count, true, yes);
  return v.yes == v.threads;
}

namespace {
struct Shuffled { u32 value, other, clamp; Shuffle mode; u32 result; bool valid; };
const char* const SHUFFLES[] = {"shfl.up", "shfl.down", "shfl.bfly", "shfl.idx"};
}  // namespace

// As the PTX manual's pseudo-code: a clamp value and a segment mask in one operand.
u32 shuffle(int site, Shuffle mode, u32 value, u32 other, u32 clamp, u32 mask, bool& valid) {
  Shuffled mine{value, other, clamp, mode, 0, false};
  meet(site, mask, SHUFFLES[(int)mode], false, &mine, [](void** all, u32 lanes) {
    for (int i = 0; i < 32; i++) {
      if (!(lanes >> i & 1)) continue;
      Shuffled& s = *(Shuffled*)all[i];
      const int segment = s.clamp >> 8 & 31, most = (i & segment) | (s.clamp & 31 & ~segment);
      const int least = i & segment, other = s.other & 31;
      int from = 0;
      switch (s.mode) {
        case Shuffle::up: from = i - other; s.valid = from >= most; break;
        case Shuffle::down: from = i + other; s.valid = from <= most; break;
        case Shuffle::butterfly: from = i ^ other; s.valid = from <= most; break;
        case Shuffle::index: from = least | (other & ~segment); s.valid = from <= most; break;
      }
      if (!s.valid) from = i;
      // The value of a lane that takes no part is undefined: poison.
      s.result = lanes >> from & 1 ? ((Shuffled*)all[from])->value : 0xFFFFFFFF;
    }
  });
  valid = mine.valid;
  return mine.result;
}

namespace {
struct Vote { bool predicate; u32 yes, members; };
Vote votes(int site, const char* what, bool predicate, u32 mask) {
  Vote mine{predicate, 0, 0};
  meet(site, mask, what, false, &mine, [](void** all, u32 lanes) {
    u32 yes = 0;
    for (int i = 0; i < 32; i++) if (lanes >> i & 1 && ((Vote*)all[i])->predicate) yes |= 1u << i;
    for (int i = 0; i < 32; i++) if (lanes >> i & 1) ((Vote*)all[i])->yes = yes, ((Vote*)all[i])->members = lanes;
  });
  return mine;
}
}  // namespace

u32 ballot(int site, bool p, u32 mask) { return votes(site, "vote.ballot", p, mask).yes; }
bool vote_all(int site, bool p, u32 mask) { Vote v = votes(site, "vote.all", p, mask); return v.yes == v.members; }
bool vote_any(int site, bool p, u32 mask) { return votes(site, "vote.any", p, mask).yes != 0; }
bool vote_uniform(int site, bool p, u32 mask) {
  Vote v = votes(site, "vote.uni", p, mask);
  return v.yes == 0 || v.yes == v.members;
}

namespace {
struct Match { u64 value; u32 same, members; };
Match matched(int site, const char* what, u64 value, u32 mask) {
  Match mine{value, 0, 0};
  meet(site, mask, what, false, &mine, [](void** all, u32 lanes) {
    for (int i = 0; i < 32; i++) {
      if (!(lanes >> i & 1)) continue;
      Match& m = *(Match*)all[i];
      m.members = lanes;
      for (int j = 0; j < 32; j++)
        if (lanes >> j & 1 && ((Match*)all[j])->value == m.value) m.same |= 1u << j;
    }
  });
  return mine;
}
struct Reduced { Reduce operation; u32 value, result; };
struct Elected { u32 leader; };
}  // namespace

u32 match_any(int site, u64 value, u32 mask) { return matched(site, "match.any", value, mask).same; }
u32 match_all(int site, u64 value, u32 mask, bool& all) {
  Match m = matched(site, "match.all", value, mask);
  all = m.same == m.members;
  return all ? m.members : 0;
}

u32 reduce(int site, Reduce operation, u32 value, u32 mask) {
  Reduced mine{operation, value, 0};
  meet(site, mask, "redux", false, &mine, [](void** all, u32 lanes) {
    u32 r = 0;
    bool first = true;
    for (int i = 0; i < 32; i++) {
      if (!(lanes >> i & 1)) continue;
      Reduced& x = *(Reduced*)all[i];
      if (first) r = x.value;
      else switch (x.operation) {
        case Reduce::add: r += x.value; break;
        case Reduce::min_u: r = std::min(r, x.value); break;
        case Reduce::max_u: r = std::max(r, x.value); break;
        case Reduce::min_s: r = (u32)std::min((s32)r, (s32)x.value); break;
        case Reduce::max_s: r = (u32)std::max((s32)r, (s32)x.value); break;
        case Reduce::bit_and: r &= x.value; break;
        case Reduce::bit_or: r |= x.value; break;
        case Reduce::bit_xor: r ^= x.value; break;
      }
      first = false;
    }
    for (int i = 0; i < 32; i++) if (lanes >> i & 1) ((Reduced*)all[i])->result = r;
  });
  return mine.result;
}

bool elect(int site, u32 mask, u32& leader) {
  Elected mine{0};
  meet(site, mask, "elect", false, &mine, [](void** all, u32 lanes) {
    for (int i = 0; i < 32; i++) if (lanes >> i & 1) ((Elected*)all[i])->leader = (u32)__builtin_ctz(lanes);
  });
  leader = mine.leader;
  return mine.leader == lane();
}

// Lanes run apart here: all that have not finished count as active.
u32 active_mask() {
  u32 mask = 0;
  const u32 first = thread_number / 32 * 32;
  for (u32 i = 0; i < 32; i++) if (!finished(first + i)) mask |= 1u << i;
  return mask;
}

}  // namespace emulator
