// Caches in host memory. Each site has a block of host memory and is copied to one of two slots on
// the device while it runs. Copies overlap with the work of other layers: while one layer runs, the
// caches of the next one are fetched, and those that the previous one changed are written back.
#pragma once

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "dit/block_policy.h"
#include "mochi/message.h"

namespace mochi {

class CacheOffload {
 public:
  // Shapes of a site's tensors in one branch. A shape without dimensions: not offloaded.
  struct Shapes {
    Shape cache;  // [tokens, heads·head_dim] of cache_dtype
    Shape bits;   // [heads, groups, words] i32
    DType cache_dtype = DType::kF32;
  };

  // Offloads the layers [first_layer, num_layers). A branch that never runs has no shapes. A thread
  // allocates the host memory in the order in which the first full step needs it. `on_message` may
  // be empty; the thread that uses the caches calls it.
  CacheOffload(Backend& backend, int first_layer, int num_layers,
               const std::array<std::optional<Shapes>, 2>& branches, MessageFn on_message);
  ~CacheOffload();
  CacheOffload(const CacheOffload&) = delete;
  CacheOffload& operator=(const CacheOffload&) = delete;

  // Device memory of the site's tensors while it runs; empty if they are not offloaded.
  TensorView cache(Site site) const { return view(site, slot_bytes(site), kCache); }
  TensorView bits(Site site) const { return view(site, slot_bytes(site), kBits); }
  // Host memory of the site's tensors. Waits until it is allocated.
  TensorView host_cache(Site site) { return view(site, host_of(site), kCache); }
  TensorView host_bits(Site site) { return view(site, host_of(site), kBits); }

  // In the following functions, `backend` is the one given to the constructor, or a decorator of
  // it.

  // Marks all slots empty at the start of a forward pass, because a captured graph cannot depend on
  // what a previous pass left in them.
  void begin(Backend& backend) {
    report_allocation();
    finish(backend);
    in_slot_ = {};
  }
  // Starts to copy a site to its slot, unless that has started already.
  void fetch(Backend& backend, Site site);
  // Waits until the site's tensors can be used.
  void await(Backend& backend, Site site);
  // Waits until the site's slot can be overwritten.
  void take(Backend& backend, Site site);
  // Starts to copy the site's slot to host memory.
  void write_back(Backend& backend, Site site);
  // Orders all copies to host memory before the operations that follow.
  void finish(Backend& backend);

  std::uint64_t host_bytes() const { return host_bytes_; }

 private:
  static constexpr std::size_t kNumSlots = 2;
  static constexpr std::size_t kAlignment = 256;
  enum Part : unsigned char { kCache, kBits };

  struct Layout {
    Shapes shapes;
    std::size_t bits_begin = 0, num_bytes = 0;
  };
  static std::size_t slot_of(Site site) { return static_cast<std::size_t>(site.layer) % kNumSlots; }
  const Layout& layout(Site site) const;
  std::size_t site_idx(Site site) const;
  TensorView slot_bytes(Site site) const;
  TensorView view(Site site, const TensorView& bytes, Part part) const;
  TensorView host_of(Site site);
  void allocate_all();
  // Tells once how long the allocation of all host memory took.
  void report_allocation();

  Backend& backend_;
  int first_layer_, num_layers_;
  std::array<std::optional<Layout>, 2> layouts_;
  std::array<Tensor, kNumSlots> slots_;
  std::array<std::optional<std::size_t>, kNumSlots> in_slot_;  // sites, in this forward pass
  std::array<Transfer, kNumSlots> fetches_, write_backs_;      // to and from each slot
  std::uint64_t host_bytes_ = 0;
  MessageFn on_message_;
  bool has_reported_ = false;

  std::mutex mutex_;  // protects the following members
  std::condition_variable has_more_;
  std::vector<Tensor> hosts_;  // by site; the first num_ready_ are allocated
  std::size_t num_ready_ = 0;
  std::optional<double> allocation_seconds_;  // total of all hosts_
  std::exception_ptr problem_;
  bool is_stopping_ = false;
  std::thread allocating_;
};

}  // namespace mochi
