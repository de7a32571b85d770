// The threads of a block as fibers: each runs until it must wait for others.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "emulator.h"

namespace emulator {

enum class State : u8 { ready, spinning, waiting, finished };

struct Copy { u8* to; const u8* from; u32 size, bytes; };

struct Range { u64 start, bytes; };

struct Bulk { std::function<void()> perform; };

struct Thread {
  ucontext_t first;       // where the fiber begins
  jmp_buf context;        // where it goes on
  bool started = false;
  std::unique_ptr<u8[]> stack;

  u32 number;
  Dim index;
  State state;
  int site;               // where it waits
  const char* waits_for;
  u32 barrier_offset;     // of an mbarrier that it waits for, and the phase
  u32 barrier_parity;
  bool gave_up;           // its last try_wait said false
  u64 branches;
  std::vector<Range> locals;
  std::vector<u32> iterations;   // by loop
  std::vector<u32> requests;     // by site: where the next one is likely to belong

  std::vector<Copy> open;               // cp.async issued,
  std::deque<std::vector<Copy>> groups; // and committed
  std::vector<Bulk> bulk_open;
  std::deque<std::vector<Bulk>> bulk_groups;
};

// A thread that waits for others of its team (a warp or a warpgroup).
struct Meeting {
  bool here = false;
  u32 mask;
  const void* what;
  int site;
  bool aligned;
  void* argument;
  void (*act)(void** arguments, u32 lanes);
};

extern Thread* thread;          // the one that runs; null between them
extern std::vector<Thread> threads;
extern bool late;
extern u64 progress;            // counts what a wait may be for

void suspend();                 // gives way to the other threads
void wait(int site, const char* for_what);  // suspends until wake() by another
void wake(Thread&);
const char* line_of(int site);

// Threads of one warp meet: `act` is run once, by the last, over the arguments of all by lane.
void meet(int site, u32 mask, const char* what, bool aligned, void* argument,
          void (*act)(void** arguments, u32 lanes));
void warp_thread_finished(Thread&);

void begin_collectives(u32 threads);
void begin_copies();
void begin_counts(u32 threads);
void check_copies_at_end(Thread&);
void check_wgmma_at_end();
bool deliver_one();             // performs the oldest copy in flight; false if there is none
void flush_counts();
void count_iteration(int loop);

struct Counts {
  u64 block_barriers, warp_collectives, matrix_multiplications, asynchronous_copies;
  u64 shared_requests, shared_passes, shared_extra_passes;
  u64 ldmatrix_phases, ldmatrix_extra;
  u64 global_requests, global_sectors;
};
extern Counts counts;
extern std::vector<u64> extra_passes;  // by site

}  // namespace emulator
