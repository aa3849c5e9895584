// A backend with the interface of a CPU backend that computes on another one, so that tests with
// host tensors run on a GPU unchanged.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mochi {

// The host as a device, which wants weights as another backend does.
class MirrorRuntime : public DeviceRuntime {
 public:
  // `inner` must outlive this.
  explicit MirrorRuntime(Backend& inner) : inner_(inner) {}

  Device device() const override { return Device::cpu(); }
  std::string name() const override { return inner_.device().name(); }
  DType activation_dtype() const override { return DType::kF32; }
  DType preferred_matrix_dtype() const override { return inner_.activation_dtype(); }
  ChunkSizes preferred_chunks() const override { return {}; }
  void* native_stream() const override { return nullptr; }
  Allocator& allocator() override { return host_allocator(); }
  Allocator& staging_allocator() override { return host_allocator(); }
  DeviceMemory memory() const override { return {}; }
  void restart_peak() override {}
  std::uint64_t memory_epoch() const override { return 0; }
  std::unique_ptr<WeightLoader> make_weight_loader() override { return nullptr; }
  Transfer start_copy(const TensorView& source, const TensorView& target) override;
  void synchronize() override { inner_.device().synchronize(); }
  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    fn();
    return nullptr;
  }

 private:
  Backend& inner_;
};

// The backend copies every tensor of an operation to `inner` before the call, outputs too, so that
// the test sees what an operation adds to and what it leaves alone; it copies outputs back
// afterwards. Activations, matrices and caches are converted to the inner activation dtype, rounded
// to nearest even; other tensors keep their dtypes. It throws Error if an operation writes to a
// tensor that it should only read. `device` is a MirrorRuntime unless another one is given.
std::unique_ptr<Backend> make_mirror_backend(Backend& inner,
                                             std::shared_ptr<DeviceRuntime> device = nullptr);

}  // namespace mochi
