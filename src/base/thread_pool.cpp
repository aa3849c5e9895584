#include "base/thread_pool.h"

#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <csignal>
#include <exception>

namespace mochi {
namespace {

using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == sizeof(std::uint32_t), "the kernel looks at the word itself");

// Long enough to bridge the serial code between two operations and the uneven end of a job; short
// enough not to matter where other programs want the processor.
constexpr std::chrono::microseconds kSpinTime{30};
constexpr std::uint32_t kCallerSleeps = 1U << 31;

thread_local bool s_is_inside_task = false;

// Returns when the word no longer holds `value` or somebody called wake; may return early.
void sleep_while(const Word& word, std::uint32_t value) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(const Word& word, int num_threads) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, num_threads, nullptr, nullptr, 0);
}

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits for the condition, at most kSpinTime. Returns true if it came true.
template <typename Condition>
bool spin_until(const Condition& condition) {
  constexpr int kLooksPerClock = 16;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int look = 0; look < kLooksPerClock; ++look) {
      if (condition()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// While it lives, threads are created that leave signals to the others: a blocking call of the main
// thread is to be interrupted by Ctrl-C, not one of a worker.
class WorkerSignalMask {
 public:
  WorkerSignalMask() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : std::array{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF}) {
      sigdelset(&blocked, fault);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &old_mask_);
  }
  ~WorkerSignalMask() { pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr); }
  WorkerSignalMask(const WorkerSignalMask&) = delete;
  WorkerSignalMask& operator=(const WorkerSignalMask&) = delete;

 private:
  sigset_t old_mask_{};
};

}  // namespace

ThreadPool& ThreadPool::instance() {
  static auto* const pool = new ThreadPool;  // NOLINT: see the declaration
  return *pool;
}

bool ThreadPool::is_inside_task() { return s_is_inside_task; }

void ThreadPool::run(int num_threads, std::uint32_t num_tasks, void* context, TaskFn run_task) {
  if (num_workers_ != num_threads - 1) resize(num_threads - 1);
  Slot* const slot = take_slot();
  if (slot == nullptr) {
    s_is_inside_task = true;
    for (std::uint32_t task_idx = 0; task_idx < num_tasks; ++task_idx) run_task(context, task_idx);
    s_is_inside_task = false;
    return;
  }
  slot->context = context;
  slot->run_task = run_task;
  slot->num_tasks = num_tasks;
  slot->num_unfinished.store(num_tasks, std::memory_order_relaxed);
  slot->num_unclaimed.store(num_tasks, std::memory_order_release);
  announce(num_tasks);
  run_tasks(*slot);
  await_finish(*slot);
  slot->is_taken.store(false, std::memory_order_release);
}

ThreadPool::Slot* ThreadPool::take_slot() {
  for (Slot& slot : slots_) {
    if (!slot.is_taken.exchange(true, std::memory_order_acquire)) return &slot;
  }
  return nullptr;
}

void ThreadPool::announce(std::uint32_t num_tasks) {
  epoch_.fetch_add(1);
  // In this order, as await_job counts itself before it looks at the epoch: one sees the other.
  const int num_sleeping = num_sleeping_;
  const auto num_useful = static_cast<int>(std::min<std::uint32_t>(num_tasks - 1, INT_MAX));
  if (num_sleeping > 0 && num_useful > 0) wake(epoch_, std::min(num_useful, num_sleeping));
}

// False when there was nothing left to claim.
bool ThreadPool::run_tasks(Slot& slot) {
  std::uint32_t num_run = 0;
  s_is_inside_task = true;
  std::uint32_t unclaimed = slot.num_unclaimed.load(std::memory_order_relaxed);
  while (unclaimed > 0) {
    if (!slot.num_unclaimed.compare_exchange_weak(
            unclaimed, unclaimed - 1, std::memory_order_acquire, std::memory_order_relaxed)) {
      continue;
    }
    slot.run_task(slot.context, slot.num_tasks - unclaimed);
    ++num_run;
    unclaimed = slot.num_unclaimed.load(std::memory_order_relaxed);
  }
  s_is_inside_task = false;
  if (num_run == 0) return false;
  const std::uint32_t before = slot.num_unfinished.fetch_sub(num_run, std::memory_order_acq_rel);
  if (before - num_run == kCallerSleeps) wake(slot.num_unfinished, 1);
  return true;
}

void ThreadPool::await_finish(Slot& slot) {
  const auto is_finished = [&] { return slot.num_unfinished.load() == 0; };
  if (spin_until(is_finished)) return;
  std::uint32_t value = slot.num_unfinished.fetch_or(kCallerSleeps) | kCallerSleeps;
  while (value != kCallerSleeps) {
    sleep_while(slot.num_unfinished, value);
    value = slot.num_unfinished.load(std::memory_order_acquire);
  }
}

bool ThreadPool::help_anyone() {
  bool has_helped = false;
  for (Slot& slot : slots_) {
    if (run_tasks(slot)) has_helped = true;
  }
  return has_helped;
}

void ThreadPool::await_job(std::uint32_t last_epoch) {
  if (spin_until([&] { return epoch_.load(std::memory_order_acquire) != last_epoch; })) return;
  ++num_sleeping_;
  if (epoch_ == last_epoch) sleep_while(epoch_, last_epoch);
  --num_sleeping_;
}

void ThreadPool::work(int worker_idx) {
  pthread_setname_np(pthread_self(), "mochi-worker");
  omp_set_num_threads(1);  // calls of oneDNN in a task run in this thread
  while (worker_idx < num_workers_) {
    const std::uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (!help_anyone()) await_job(epoch);
  }
}

void ThreadPool::resize(int num_workers) {
  const std::scoped_lock lock(resize_mutex_);
  if (owner_pid_ != ::getpid()) {
    for (std::thread& worker : workers_) worker.detach();
    workers_.clear();
    owner_pid_ = ::getpid();
  }
  num_workers_ = num_workers;
  ++epoch_;
  wake(epoch_, INT_MAX);
  while (std::ssize(workers_) > num_workers) {
    workers_.back().join();
    workers_.pop_back();
  }
  const WorkerSignalMask no_signals;
  try {
    workers_.reserve(static_cast<std::size_t>(num_workers));
    while (std::ssize(workers_) < num_workers) {
      const auto worker_idx = static_cast<int>(workers_.size());
      workers_.emplace_back([this, worker_idx] { work(worker_idx); });
    }
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): fewer threads do the same work
  }
}

}  // namespace mochi
