// The CPU as a device, and as what operations run on.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mochi::cpu {

struct OneDnn;

// Activations are F32. oneDNN computes matmuls and convolutions; everything else is plain loops
// that the compiler vectorises. Results do not depend on the number of threads.
class Cpu final : public DeviceRuntime {
 public:
  explicit Cpu(Device device);
  ~Cpu() override;

  Device device() const override { return device_; }
  std::string name() const override { return "CPU"; }
  DType activation_dtype() const override { return DType::kF32; }
  DType preferred_matrix_dtype() const override;
  ChunkSizes preferred_chunks() const override { return {}; }
  void* native_stream() const override { return nullptr; }
  Allocator& allocator() override { return *allocator_; }
  Allocator& staging_allocator() override { return host_allocator(); }
  DeviceMemory memory() const override { return {}; }
  void restart_peak() override {}
  std::uint64_t memory_epoch() const override { return 0; }
  std::unique_ptr<WeightLoader> make_weight_loader() override { return nullptr; }
  Transfer start_copy(const TensorView& source, const TensorView& target) override;
  void synchronize() override {}
  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    fn();
    return nullptr;
  }

  OneDnn& onednn() const { return *onednn_; }

 private:
  Device device_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<OneDnn> onednn_;
};

// Computes one operation. implement.h defines it, and the file that implements the operation
// instantiates it.
template <class Op>
void compute(Cpu& cpu, const Op& op);

}  // namespace mochi::cpu
