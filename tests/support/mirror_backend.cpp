#include "support/mirror_backend.h"

#include "support/mirror_call.h"

namespace mochi {
namespace {

class MirrorBackend final : public Launches<MirrorBackend, Backend> {
 public:
  MirrorBackend(Backend& inner, std::shared_ptr<DeviceRuntime> device)
      : Launches(std::move(device)), inner_(inner) {}

  template <class Op>
  void launch(const Op& op) {
    Call call(inner_, Op::kName);
    Op inner_op = op;
    visit_fields(inner_op, call);
    inner_.run(inner_op);
    call.finish();
  }
  void launch(const ops::Upload& op) { convert(op.host, op.target); }
  void launch(const ops::Download& op) { convert(op.source, op.host); }

 private:
  Backend& inner_;
};

}  // namespace

Transfer MirrorRuntime::start_copy(const TensorView& source, const TensorView& target) {
  check_copy("copying", source, target);
  convert(source, target);
  return {};
}

std::unique_ptr<Backend> make_mirror_backend(Backend& inner,
                                             std::shared_ptr<DeviceRuntime> device) {
  if (!device) device = std::make_shared<MirrorRuntime>(inner);
  return std::make_unique<MirrorBackend>(inner, std::move(device));
}

}  // namespace mochi
