// Matrix products, by oneDNN.
#include <array>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "base/error.h"

namespace mochi {

namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Tag = memory::format_tag;

dnnl::primitive_attr linear_attributes(const LinearOptions& options) {
  dnnl::post_ops post_ops;
  if (options.accumulate) post_ops.append_sum(1.0F);
  if (options.activation == Activation::kSilu) {
    post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
  } else if (options.activation == Activation::kGeluTanh) {
    post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_gelu_tanh, 0.0F, 0.0F);
  }
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post_ops);
  return attributes;
}

// x rounded to bf16 in memory that `onednn` keeps.
TensorView round_to_bf16(cpu::OneDnn& onednn, const TensorView& x) {
  if (!onednn.bf16_input || onednn.bf16_input.view().num_elements() < x.num_elements()) {
    onednn.bf16_input = Tensor(DType::kBF16, {x.num_elements()});
  }
  const memory::dims dims{x.num_elements()};
  memory source({dims, DataType::f32, Tag::a}, onednn.engine, x.bytes());
  const TensorView rounded(onednn.bf16_input.view().bytes(), DType::kBF16, x.shape());
  memory target({dims, DataType::bf16, Tag::a}, onednn.engine, rounded.bytes());
  dnnl::reorder(source, target).execute(onednn.stream, source, target);
  return rounded;
}

}  // namespace

DType CpuBackend::preferred_matrix_dtype() const {
  return cpu::prefers_bf16() ? DType::kBF16 : DType::kF32;
}

void CpuBackend::do_linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                           const TensorView& out, const LinearOptions& options) try {
  cpu::OneDnn& onednn = *onednn_;
  const bool is_bf16 = weight.dtype() == DType::kBF16;
  const memory::dim rows = x.dim(0);
  const memory::dim in_features = x.dim(1);
  const memory::dim out_features = weight.dim(0);
  const DataType operand = is_bf16 ? DataType::bf16 : DataType::f32;
  const memory::desc x_desc({rows, in_features}, operand, Tag::ab);
  const memory::desc weight_desc({in_features, out_features}, operand, Tag::ba);
  const memory::desc bias_desc({1, out_features}, DataType::f32, Tag::ab);
  const memory::desc out_desc({rows, out_features}, DataType::f32, Tag::ab);

  const cpu::OneDnn::LinearKey key{rows,
                                   out_features,
                                   in_features,
                                   is_bf16,
                                   static_cast<bool>(bias),
                                   options.activation,
                                   options.accumulate};
  auto found = onednn.linears.find(key);
  if (found == onednn.linears.end()) {
    const auto desc = bias ? dnnl::matmul::desc(x_desc, weight_desc, bias_desc, out_desc)
                           : dnnl::matmul::desc(x_desc, weight_desc, out_desc);
    const dnnl::matmul::primitive_desc primitive_desc(desc, linear_attributes(options),
                                                      onednn.engine);
    found = onednn.linears.emplace(key, dnnl::matmul(primitive_desc)).first;
  }

  const TensorView input = is_bf16 ? round_to_bf16(onednn, x) : x;
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(x_desc, onednn.engine, input.bytes())},
      {DNNL_ARG_WEIGHTS, memory(weight_desc, onednn.engine, weight.bytes())},
      {DNNL_ARG_DST, memory(out_desc, onednn.engine, out.bytes())}};
  if (bias) arguments.emplace(DNNL_ARG_BIAS, memory(bias_desc, onednn.engine, bias.bytes()));
  found->second.execute(onednn.stream, arguments);
  onednn.stream.wait();
} catch (const dnnl::error& error) {
  fail("linear: {} times {} failed in oneDNN: {}", x.shape().to_string(),
       weight.shape().to_string(), error.what());
}

}  // namespace mochi
