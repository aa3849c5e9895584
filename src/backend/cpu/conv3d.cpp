// Convolutions on channels-last activations, by oneDNN where winograd.h has nothing faster.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/winograd.h"
#include "base/error.h"

namespace mochi {

namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Tag = memory::format_tag;

// oneDNN's kernels index with 32 bits in places: larger tensors are convolved in several pieces.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 30;

// [frames, rows, columns, channels] in oneDNN's logical order.
memory::desc activation_desc(const Shape& shape, DataType type) {
  return {{1, shape[3], shape[0], shape[1], shape[2]}, type, Tag::ndhwc};
}

memory::dims weight_dims(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

dnnl::convolution_forward::primitive_desc describe(const dnnl::engine& engine, const TensorView& x,
                                                   const Conv3d& params, const TensorView& out,
                                                   DataType operand) {
  const Shape& weight = params.weight.shape();
  const memory::dims strides(params.stride.begin(), params.stride.end());
  const memory::dims no_padding{0, 0, 0};
  const memory::desc weight_desc(weight_dims(weight), operand, Tag::any);
  const memory::desc bias_desc =
      params.bias ? memory::desc({weight[0]}, DataType::f32, Tag::x) : memory::desc();
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      activation_desc(x.shape(), operand), weight_desc, bias_desc,
      activation_desc(out.shape(), DataType::f32), strides, no_padding, no_padding);
  dnnl::primitive_attr attributes;
  if (params.residual) {
    dnnl::post_ops post_ops;
    post_ops.append_sum(1.0F);
    attributes.set_post_ops(post_ops);
  }
  return {desc, attributes, engine};
}

// `source` itself where it already has the wanted type and layout.
memory convert(cpu::OneDnn& onednn, memory source, const memory::desc& wanted) {
  if (source.get_desc() == wanted) return source;
  memory target(wanted, onednn.engine);
  dnnl::reorder(source, target).execute(onednn.stream, source, target);
  return target;
}

void run(cpu::OneDnn& onednn, const TensorView& x, const Conv3d& params, const TensorView& out) {
  const bool is_bf16 = params.weight.dtype() == DType::kBF16;
  const DataType stored = is_bf16 ? DataType::bf16 : DataType::f32;
  const DataType operand = is_bf16 && cpu::prefers_bf16() ? DataType::bf16 : DataType::f32;
  const auto primitive_desc = describe(onednn.engine, x, params, out, operand);

  const memory input(activation_desc(x.shape(), DataType::f32), onednn.engine, x.bytes());
  const memory weight({weight_dims(params.weight.shape()), stored, Tag::oidhw}, onednn.engine,
                      params.weight.bytes());
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, convert(onednn, input, primitive_desc.src_desc())},
      {DNNL_ARG_WEIGHTS, convert(onednn, weight, primitive_desc.weights_desc())},
      {DNNL_ARG_DST, memory(primitive_desc.dst_desc(), onednn.engine, out.bytes())}};
  if (params.bias) {
    arguments.emplace(DNNL_ARG_BIAS,
                      memory(primitive_desc.bias_desc(), onednn.engine, params.bias.bytes()));
  }
  dnnl::convolution_forward(primitive_desc).execute(onednn.stream, arguments);
  onednn.stream.wait();
}

// A matrix product, then.
bool is_pixelwise(const Conv3d& params) {
  const Shape& weight = params.weight.shape();
  const bool has_one_tap = weight[2] == 1 && weight[3] == 1 && weight[4] == 1;
  return has_one_tap && params.stride == std::array{1, 1, 1};
}

}  // namespace

void CpuBackend::do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) try {
  if (is_pixelwise(params)) {
    if (params.residual && params.residual.bytes() != out.bytes()) do_copy(params.residual, out);
    const std::int64_t num_pixels = out.num_elements() / out.dim(3);
    return do_linear(x.reshape({num_pixels, x.dim(3)}),
                     params.weight.reshape({out.dim(3), x.dim(3)}), params.bias,
                     out.reshape({num_pixels, out.dim(3)}),
                     {.accumulate = static_cast<bool>(params.residual)});
  }
  const bool has_bf16_tiles = params.weight.dtype() == DType::kBF16 && cpu::prefers_bf16();
  if (!has_bf16_tiles && cpu::suits_winograd(x, params)) {
    return cpu::conv3d_winograd(x, params, out);
  }
  // oneDNN adds to what the output holds.
  if (params.residual && params.residual.bytes() != out.bytes()) do_copy(params.residual, out);
  const std::int64_t num_out_frames = out.dim(0);
  const std::int64_t kernel_frames = params.weight.dim(2);
  const std::int64_t stride = params.stride[0];
  const std::int64_t num_frame_elements =
      std::max(x.num_elements() / x.dim(0) * stride, out.num_elements() / num_out_frames);
  const std::int64_t piece = std::max<std::int64_t>(kMaxElements / num_frame_elements, 1);
  for (std::int64_t begin = 0; begin < num_out_frames; begin += piece) {
    const std::int64_t end = std::min(begin + piece, num_out_frames);
    const TensorView frames = x.rows(begin * stride, (end - 1) * stride + kernel_frames);
    run(*onednn_, frames, params, out.rows(begin, end));
  }
} catch (const dnnl::error& error) {
  fail("conv3d: {} with weight {} failed in oneDNN: {}", x.shape().to_string(),
       params.weight.shape().to_string(), error.what());
}

}  // namespace mochi
