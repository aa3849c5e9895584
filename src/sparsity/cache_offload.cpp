#include "sparsity/cache_offload.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "base/error.h"

namespace mochi {
namespace {

std::size_t bytes_of(DType dtype, const Shape& shape) {
  if (shape.rank() == 0) return 0;
  return static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
}

Shape byte_shape(std::size_t num_bytes) { return {static_cast<std::int64_t>(num_bytes)}; }

}  // namespace

CacheOffload::CacheOffload(Backend& backend, int first_layer, int num_layers,
                           const std::array<std::optional<Shapes>, 2>& branches,
                           MessageFn on_message)
    : backend_(backend),
      first_layer_(first_layer),
      num_layers_(num_layers),
      on_message_(std::move(on_message)) {
  std::size_t largest = 0;
  const auto num_sites = static_cast<std::size_t>(num_layers - first_layer);
  for (std::size_t branch = 0; branch < branches.size(); ++branch) {
    const std::optional<Shapes>& shapes = branches[branch];
    if (!shapes) continue;
    Layout layout{.shapes = *shapes};
    const std::size_t cache_bytes = bytes_of(shapes->cache_dtype, shapes->cache);
    layout.bits_begin = (cache_bytes + kAlignment - 1) / kAlignment * kAlignment;
    layout.num_bytes = layout.bits_begin + bytes_of(DType::kI32, layout.shapes.bits);
    largest = std::max(largest, layout.num_bytes);
    host_bytes_ += num_sites * layout.num_bytes;
    layouts_[branch] = layout;
  }
  for (Tensor& slot : slots_) slot = Tensor(DType::kU8, byte_shape(largest), backend.allocator());
  hosts_.resize(branches.size() * num_sites);
  allocating_ = std::thread([this] { allocate_all(); });
}

CacheOffload::~CacheOffload() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  allocating_.join();
  try {
    // Unfinished copies use memory that is about to be freed.
    for (Transfer& fetch : fetches_) backend_.run(ops::Await{.transfer = fetch});
    finish(backend_);
    backend_.device().synchronize();
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): a lost device copies nothing
  }
}

void CacheOffload::allocate_all() {
  const auto start = std::chrono::steady_clock::now();
  const auto num_sites = static_cast<std::size_t>(num_layers_ - first_layer_);
  for (std::size_t idx = 0; idx < hosts_.size(); ++idx) {
    const std::optional<Layout>& layout = layouts_[idx / num_sites];
    Tensor host;
    std::exception_ptr problem;
    try {
      if (layout) {
        host = Tensor(DType::kU8, byte_shape(layout->num_bytes),
                      backend_.device().staging_allocator());
      }
    } catch (...) {  // rethrown in the thread that needs the memory
      problem = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    hosts_[idx] = std::move(host);
    problem_ = problem;
    if (!problem) ++num_ready_;
    has_more_.notify_all();
    if (problem || is_stopping_) return;
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  const std::lock_guard lock(mutex_);
  allocation_seconds_ = taken.count();
}

void CacheOffload::report_allocation() {
  if (!on_message_ || has_reported_) return;
  {
    const std::lock_guard lock(mutex_);
    if (!allocation_seconds_) return;
  }
  has_reported_ = true;
  on_message_(MessageLevel::kDebug,
              fmt::format("host memory for sparse caches: {:.2f} GB after {:.2f} s",
                          static_cast<double>(host_bytes_) / 1e9, *allocation_seconds_));
}

const CacheOffload::Layout& CacheOffload::layout(Site site) const {
  const std::optional<Layout>& layout = layouts_[static_cast<std::size_t>(site.branch)];
  if (!layout || site.layer < first_layer_ || site.layer >= num_layers_) {
    fail("sparse caches: layer {} of branch {} was not expected", site.layer,
         static_cast<int>(site.branch));
  }
  return *layout;
}

std::size_t CacheOffload::site_idx(Site site) const {
  const auto num_sites = static_cast<std::size_t>(num_layers_ - first_layer_);
  return static_cast<std::size_t>(site.branch) * num_sites +
         static_cast<std::size_t>(site.layer - first_layer_);
}

TensorView CacheOffload::slot_bytes(Site site) const {
  return slots_[slot_of(site)].view().rows(0, static_cast<std::int64_t>(layout(site).num_bytes));
}

TensorView CacheOffload::view(Site site, const TensorView& bytes, Part part) const {
  const Layout& of_branch = layout(site);
  const Shape& shape = part == kCache ? of_branch.shapes.cache : of_branch.shapes.bits;
  if (shape.rank() == 0) return {};
  if (part == kCache) {
    return {bytes.bytes(), of_branch.shapes.cache_dtype, shape, bytes.device()};
  }
  return {bytes.bytes() + of_branch.bits_begin, DType::kI32, shape, bytes.device()};
}

TensorView CacheOffload::host_of(Site site) {
  layout(site);
  const std::size_t idx = site_idx(site);
  std::unique_lock lock(mutex_);
  has_more_.wait(lock, [&] { return idx < num_ready_ || problem_; });
  if (idx >= num_ready_) std::rethrow_exception(problem_);
  return hosts_[idx];
}

void CacheOffload::fetch(Backend& backend, Site site) {
  const std::size_t slot = slot_of(site);
  if (in_slot_[slot] == site_idx(site)) return;
  const TensorView host = host_of(site);
  take(backend, site);
  fetches_[slot] = backend.device().start_copy(host, slot_bytes(site));
  in_slot_[slot] = site_idx(site);
}

void CacheOffload::await(Backend& backend, Site site) {
  fetch(backend, site);
  backend.run(ops::Await{.transfer = fetches_[slot_of(site)]});
}

void CacheOffload::take(Backend& backend, Site site) {
  backend.run(ops::Await{.transfer = write_backs_[slot_of(site)]});
}

void CacheOffload::write_back(Backend& backend, Site site) {
  const std::size_t slot = slot_of(site);
  write_backs_[slot] = backend.device().start_copy(slot_bytes(site), host_of(site));
  in_slot_[slot] = site_idx(site);
}

void CacheOffload::finish(Backend& backend) {
  for (Transfer& write_back : write_backs_) backend.run(ops::Await{.transfer = write_back});
}

}  // namespace mochi
