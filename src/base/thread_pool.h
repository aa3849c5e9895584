// The threads of parallel_for. A thread without work looks for some for a few microseconds and then
// sleeps. Nobody waits for a thread that has not begun: if other programs hold the processors, the
// threads that do run finish the job alone.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace mochi {

class ThreadPool {
 public:
  // A function that must not throw, called once for each index of a job.
  using TaskFn = void (*)(void* context, std::uint32_t task_idx) noexcept;

  // The pool of this process. It is never destroyed, since threads may still work when static
  // objects end.
  static ThreadPool& instance();

  // Runs all tasks of a job in the calling thread and up to num_threads - 1 workers, and returns
  // when they are finished. Several threads may call it at once. Must not be called from a task.
  void run(int num_threads, std::uint32_t num_tasks, void* context, TaskFn run_task);

  // True in a thread that is running a task.
  static bool is_inside_task();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

 private:
  static constexpr std::size_t kCacheLine = 64;
  static constexpr int kNumSlots = 8;  // jobs of different callers that can be shared at once

  // The job of one caller. Slots are reused and never freed, so that a worker that comes late finds
  // an empty one instead of freed memory. Claiming a task is what makes reading the other
  // fields safe: the caller leaves only after every task that was claimed is finished.
  struct alignas(kCacheLine) Slot {
    std::atomic<bool> is_taken{false};
    void* context = nullptr;
    TaskFn run_task = nullptr;
    std::uint32_t num_tasks = 0;
    alignas(kCacheLine) std::atomic<std::uint32_t> num_unclaimed{0};
    // With kCallerSleeps added while the caller waits in the kernel.
    alignas(kCacheLine) std::atomic<std::uint32_t> num_unfinished{0};
  };

  ThreadPool() = default;
  ~ThreadPool() = default;

  void resize(int num_workers);
  void work(int worker_idx);
  bool help_anyone();
  void await_job(std::uint32_t last_epoch);
  void announce(std::uint32_t num_tasks);
  Slot* take_slot();
  static bool run_tasks(Slot& slot);
  static void await_finish(Slot& slot);

  std::array<Slot, kNumSlots> slots_;
  alignas(kCacheLine) std::atomic<std::uint32_t> epoch_{0};  // changes with every new job
  std::atomic<int> num_sleeping_{0};
  std::atomic<int> num_workers_{0};  // wanted; fewer where the system gives no more threads
  std::mutex resize_mutex_;
  std::vector<std::thread> workers_;
  int owner_pid_ = 0;  // the process that has these workers_; a forked child has none
};

}  // namespace mochi
