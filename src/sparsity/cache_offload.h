// Caches of sites that do not stay on the device: each site has a block of host memory, and is on
// the device, in one of two slots, only while it runs. Copies go beside the work of other layers:
// while one runs, the next is fetched, and what the last one has changed is written back.
#pragma once

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "sparsity/attention_policy.h"

namespace mochi {

class CacheOffload {
 public:
  // What is kept of each site of a branch; without rank: it stays elsewhere.
  struct Shapes {
    Shape cache;  // [tokens, heads·head_dim] of cache_dtype
    Shape bits;   // [heads, groups, words] i32
    DType cache_dtype = DType::kF32;
  };

  // Of the layers [first_layer, num_layers); a branch that never runs has no value. Host memory is
  // allocated by a thread, in the order in which a first full step will want it. `on_message` may
  // be empty; it is called from the thread that uses the caches.
  CacheOffload(Backend& backend, int first_layer, int num_layers,
               const std::array<std::optional<Shapes>, 2>& branches, MessageFn on_message);
  ~CacheOffload();
  CacheOffload(const CacheOffload&) = delete;
  CacheOffload& operator=(const CacheOffload&) = delete;

  // Where the site's values are while it runs; empty: they stay elsewhere.
  TensorView cache(AttentionSite site) const { return view(site, slot_bytes(site), kCache); }
  TensorView bits(AttentionSite site) const { return view(site, slot_bytes(site), kBits); }
  // The same in host memory; waits until there is some.
  TensorView host_cache(AttentionSite site) { return view(site, host_of(site), kCache); }
  TensorView host_bits(AttentionSite site) { return view(site, host_of(site), kBits); }

  // The backend of these is the same one, or one around it.

  // A forward begins: it can rely on nothing that is in the slots, since a recording of it would
  // not know of that.
  void begin(Backend& backend) {
    report_allocation();
    finish(backend);
    in_slot_ = {};
  }
  // Brings a site in the background, if it is not on its way already.
  void fetch(Backend& backend, AttentionSite site);
  // From now on the site's values may be used.
  void await(Backend& backend, AttentionSite site);
  // From now on the site's slot may be overwritten.
  void take(Backend& backend, AttentionSite site);
  // Takes what is in the slot to the host, in the background.
  void write_back(Backend& backend, AttentionSite site);
  // Behind this the host has all that was written back.
  void finish(Backend& backend);

  std::uint64_t host_bytes() const { return host_bytes_; }

 private:
  static constexpr std::size_t kNumSlots = 2;
  static constexpr int kFirstPrefetchSlot = 4;  // behind those of streamed weights
  static constexpr std::size_t kAlignment = 256;
  enum Part : unsigned char { kCache, kBits };

  struct Layout {
    Shapes shapes;
    std::size_t bits_begin = 0, num_bytes = 0;
  };
  static std::size_t slot_of(AttentionSite site) {
    return static_cast<std::size_t>(site.layer) % kNumSlots;
  }
  const Layout& layout(AttentionSite site) const;
  std::size_t site_idx(AttentionSite site) const;
  TensorView slot_bytes(AttentionSite site) const;
  TensorView view(AttentionSite site, const TensorView& bytes, Part part) const;
  TensorView host_of(AttentionSite site);
  void allocate_all();
  // Tells once how long the allocation of all host memory took.
  void report_allocation();

  Backend& backend_;
  int first_layer_, num_layers_;
  std::array<std::optional<Layout>, 2> layouts_;
  std::array<Tensor, kNumSlots> slots_;
  std::array<std::optional<std::size_t>, kNumSlots> in_slot_;  // which site, in this forward
  std::array<bool, kNumSlots> is_fetching_{}, is_writing_{};
  std::uint64_t host_bytes_ = 0;
  MessageFn on_message_;
  bool has_reported_ = false;

  std::mutex mutex_;  // of what follows
  std::condition_variable has_more_;
  std::vector<Tensor> hosts_;  // by site; the first num_ready_ are there
  std::size_t num_ready_ = 0;
  std::optional<double> allocation_seconds_;  // of all hosts_
  std::exception_ptr problem_;
  bool is_stopping_ = false;
  std::thread allocating_;
};

}  // namespace mochi
