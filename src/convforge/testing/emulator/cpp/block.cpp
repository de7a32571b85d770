// Runs a grid: blocks one after another, the threads of a block as fibers that take turns.
#include "block.h"

#include <stdarg.h>
#include <stdio.h>

#include <map>
#include <string>

namespace emulator {

Dim thread_index, block_index, block_size, grid_size;
u32 thread_number;
Thread* thread;
std::vector<Thread> threads;
bool late;
u64 progress;
Counts counts;

namespace {

const u64 MOST_BRANCHES = 100 * 1000 * 1000;
const u64 TURN = 4096;  // branches after which a loop gives way, so that others may end it

jmp_buf scheduler;
Finding finding;
int finding_site;
std::string message;
const Entry* entry;
const u8* parameters;
std::vector<u8> shared_memory;
std::vector<u8> parameter_memory;

struct Random {
  u64 state;
  u32 below(u32 n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)((state >> 33) % n);
  }
};

template <class T> void arrange(std::vector<T>& items, int order, Random& random) {
  for (size_t i = 0; i < items.size(); i++) items[i] = (T)(order == 1 ? items.size() - 1 - i : i);
  if (order > 1)
    for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[random.below((u32)i)]);
}

void finish() {
  check_copies_at_end(*thread);
  thread->state = State::finished;
  thread->locals.clear();
  progress++;
  warp_thread_finished(*thread);
}

void trampoline() {
  for (;;) {
    entry->run(parameters);
    finish();
    suspend();
  }
}

void resume(Thread& t) {
  thread = &t;
  thread_number = t.number;
  thread_index = t.index;
  if (_setjmp(scheduler) == 0) {
    if (t.started) _longjmp(t.context, 1);
    t.started = true;
    setcontext(&t.first);
  }
  thread = nullptr;
}

void prepare(Thread& t, u32 number) {
  t.number = number;
  t.index = {number % block_size.x, number / block_size.x % block_size.y,
             number / (block_size.x * block_size.y)};
  t.state = State::ready;
  t.site = -1;
  t.waits_for = nullptr;
  t.gave_up = false;
  t.branches = 0;
  t.locals.clear();
  t.iterations.assign(loop_count, 0);
  t.requests.assign(site_count, 0);
  t.open.clear();
  t.groups.clear();
  t.bulk_open.clear();
  t.bulk_groups.clear();
  if (!t.stack) {
    t.stack.reset(new u8[frame_bytes]);
    t.started = false;
  }
  if (t.started) return;  // it waits in trampoline() for its next kernel
  getcontext(&t.first);
  t.first.uc_stack.ss_sp = t.stack.get();
  t.first.uc_stack.ss_size = frame_bytes;
  t.first.uc_link = nullptr;
  makecontext(&t.first, trampoline, 0);
}

// Where everybody stands, warp by warp: threads at one line are told together.
[[noreturn]] void deadlock() {
  std::string text;
  bool finished = false;
  int site = -1;
  for (size_t first = 0; first < threads.size(); first += 32) {
    std::map<std::string, std::string> places;
    size_t end = std::min(first + 32, threads.size());
    for (size_t i = first; i < end; i++) {
      Thread& t = threads[i];
      std::string place = "finished";
      if (t.state == State::finished) finished = true;
      else {
        place = std::string(t.waits_for ? t.waits_for : "a loop") + " of " + line_of(t.site);
        if (site < 0) site = t.site;
      }
      size_t last = i;
      std::string& lanes = places[place];
      while (last + 1 < end && threads[last + 1].state == t.state && threads[last + 1].site == t.site) last++;
      lanes += (lanes.empty() ? "" : ", ") + std::to_string(i) + (last > i ? "-" + std::to_string(last) : "");
      i = last;
    }
    for (auto& [place, lanes] : places)
      text += "\n  threads " + lanes + (place == "finished" ? " have finished" : " wait at " + place);
  }
  for (Thread& t : threads) if (t.state != State::finished) { thread_index = t.index; break; }
  fail(Finding::deadlock, site, "%s%s",
       finished ? "threads wait for others that have finished:" : "all threads wait:", text.c_str());
}

void run_block(int order, Random& random) {
  const u32 n = block_size.x * block_size.y * block_size.z;
  memset(shared, 0xFF, shared_bytes);  // NaN in every floating-point type
  begin_collectives(n);
  begin_copies();
  begin_counts(n);
  for (u32 i = 0; i < n; i++) prepare(threads[i], i);
  std::vector<u32> turns(n);
  for (;;) {
    const u64 before = progress;
    u32 alive = 0;
    arrange(turns, order, random);
    for (u32 i : turns) {
      Thread& t = threads[i];
      if (t.state == State::spinning) t.state = State::ready;
      if (t.state == State::ready) resume(t);
      alive += t.state != State::finished;
    }
    if (alive == 0) break;
    if (progress == before && !deliver_one()) deadlock();
  }
  while (deliver_one()) {}
  check_wgmma_at_end();
  flush_counts();
}

jmp_buf launch_failed;

}  // namespace

const char* line_of(int site) {
  static char texts[4][32];
  static int next;
  char* text = texts[next++ % 4];
  snprintf(text, sizeof texts[0], "line %d", site < 0 ? 0 : sites[site].line);
  return text;
}

void fail(Finding kind, int site, const char* format, ...) {
  char text[8192];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  finding = kind;
  finding_site = site;
  message = text;
  _longjmp(launch_failed, 1);
}

void suspend() {
  if (_setjmp(thread->context) == 0) _longjmp(scheduler, 1);
}

void wait(int site, const char* for_what) {
  thread->site = site;
  thread->waits_for = for_what;
  thread->state = State::waiting;
  suspend();
}

void wake(Thread& t) {
  if (t.state == State::waiting) t.state = State::ready;
  progress++;
}

void finish_now() {
  finish();
  suspend();
  __builtin_unreachable();
}

void loop(int site, int number) {
  count_iteration(number);
  if (++thread->branches % TURN) return;
  if (thread->branches > MOST_BRANCHES)
    fail(Finding::endless, site, "more than %llu backward branches", (unsigned long long)MOST_BRANCHES);
  thread->site = site;
  thread->waits_for = nullptr;
  progress++;
  suspend();
}

void nothing(int) {}
void assertion(int site) { fail(Finding::assertion, site, "an assertion of the kernel failed"); }

u64 clock() { return progress + thread->branches; }

}  // namespace emulator

using namespace emulator;

// In step with `_Launch` of module.py, which checks the limits.
struct Launch {
  u32 entry, order, late, shared;
  Dim grid, block;
  const u8* parameters;
  const u64* regions;  // start, bytes, writable
  u64 region_count;
};
struct Result {
  int kind, line;
  Dim block, thread;
  Counts counts;
  char message[8192];
};

namespace emulator { void register_regions(const u64*, u64, const u8*, u64); }

extern "C" void emulator_run(const Launch* launch, Result* result, u64* extra_by_site) {
  memset(result, 0, sizeof *result);
  counts = Counts();
  extra_passes.assign(site_count, 0);
  finding = Finding::none;
  thread = nullptr;
  thread_index = {0, 0, 0};
  block_index = {0, 0, 0};
  grid_size = launch->grid;
  block_size = launch->block;
  late = launch->late;
  entry = &entries[launch->entry];
  const u32 n = block_size.x * block_size.y * block_size.z;
  if (_setjmp(launch_failed) == 0) {
    shared_bytes = entry->shared_bytes + launch->shared;
    // Copies of bulk need 1024-byte alignment, which the base keeps as the device's does.
    shared_memory.resize(SHARED_WINDOW + 1024);
    shared = (u8*)(((u64)shared_memory.data() + 1023) & ~(u64)1023);
    shared_offsets = entry->shared_offsets;
    parameter_memory.assign(entry->parameter_bytes + 128, 0);
    u8* aligned = (u8*)(((u64)parameter_memory.data() + 127) & ~(u64)127);
    memcpy(aligned, launch->parameters, entry->parameter_bytes);
    parameters = aligned;
    for (int i = 0; i < variable_count; i++)
      memcpy(variables[i].start, variables[i].initial, variables[i].bytes);
    register_regions(launch->regions, launch->region_count, parameters, entry->parameter_bytes);
    if (threads.size() != n) {
      std::vector<Thread> fresh(n);
      threads.swap(fresh);
    }
    Random random{launch->order};
    std::vector<u64> blocks((u64)grid_size.x * grid_size.y * grid_size.z);
    arrange(blocks, (int)launch->order, random);
    for (u64 b : blocks) {
      block_index = {(u32)(b % grid_size.x), (u32)(b / grid_size.x % grid_size.y),
                     (u32)(b / ((u64)grid_size.x * grid_size.y))};
      run_block((int)launch->order, random);
    }
  } else {
    // The fibers stand somewhere in the kernel: they begin anew.
    for (Thread& t : threads) t.started = false;
    result->kind = (int)finding;
    result->line = finding_site < 0 ? 0 : sites[finding_site].line;
    result->block = block_index;
    result->thread = thread_index;
    snprintf(result->message, sizeof result->message, "%s", message.c_str());
  }
  result->counts = counts;
  for (int i = 0; i < site_count; i++) extra_by_site[i] = extra_passes[i];
}
