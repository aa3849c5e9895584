#include <cstring>

#include "backend/cpu/cpu.h"
#include "backend/cpu/make_cpu_backend.h"
#include "backend/cpu/onednn.h"

namespace mochi {

namespace cpu {

Cpu::Cpu(Device device)
    : device_(device),
      allocator_(make_host_allocator(device)),
      onednn_(std::make_unique<OneDnn>()) {}

Cpu::~Cpu() = default;

DType Cpu::preferred_matrix_dtype() const { return prefers_bf16() ? DType::kBF16 : DType::kF32; }

Transfer Cpu::start_copy(const TensorView& source, const TensorView& target) {
  check_copy("copying", source, target);
  std::memcpy(target.bytes(), source.bytes(), source.size_bytes());
  return {};
}

}  // namespace cpu

namespace {

class CpuBackend final : public Launches<CpuBackend, Backend> {
 public:
  explicit CpuBackend(const std::shared_ptr<cpu::Cpu>& cpu) : Launches(cpu), cpu_(*cpu) {}

  template <class Op>
  void launch(const Op& op) {
    cpu::compute(cpu_, op);
  }

 private:
  cpu::Cpu& cpu_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(Device device) {
  return std::make_unique<CpuBackend>(std::make_shared<cpu::Cpu>(device));
}

}  // namespace mochi
