// Convolutions on channels-last activations, by oneDNN where winograd.h has nothing faster.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/winograd.h"
#include "base/parallel_for.h"

namespace mochi {

namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Tag = memory::format_tag;

// [frames, rows, columns, channels] in oneDNN's logical order.
memory::desc activation_desc(const Shape& shape, DataType type) {
  return {{1, shape[3], shape[0], shape[1], shape[2]}, type, Tag::ndhwc};
}

memory::dims weight_dims(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

// The rows of one output frame that a thread computes at a time, from a copy of the input that they
// depend on. The sizes depend on the tensors alone, as do the results.
struct Bands {
  std::int64_t rows;  // rows per band; the last band of a frame may have fewer
  std::int64_t per_frame;
  std::int64_t last_rows;

  Bands(const TensorView& x, const Conv3d& params, const Shape& out) {
    constexpr std::int64_t kWantedBands = 64;
    constexpr std::int64_t kMinRows = 4;  // the rows around them are copied for every band
    constexpr std::int64_t kMaxElements = std::int64_t{4} << 20;
    const std::int64_t wanted = out[0] * out[1] / kWantedBands;
    const std::int64_t elements_per_row =
        params.weight.dim(2) * params.stride[1] * x.dim(2) * x.dim(3);
    const std::int64_t most = std::max(kMaxElements / elements_per_row, kMinRows);
    rows = std::min(std::clamp(wanted, kMinRows, most), out[1]);
    per_frame = (out[1] + rows - 1) / rows;
    last_rows = out[1] - (per_frame - 1) * rows;
  }
};

// Sizes and scratch memory that a band of some number of rows needs.
struct Plan {
  Shape x, out;
  dnnl::convolution_forward::primitive_desc desc;
  dnnl::convolution_forward primitive;
  Tensor weight;  // in the layout that the primitive wants
};

Shape input_shape(const TensorView& x, const Conv3d& params, std::int64_t out_rows) {
  return {params.weight.dim(2), (out_rows - 1) * params.stride[1] + params.weight.dim(3), x.dim(2),
          x.dim(3)};
}

dnnl::convolution_forward::primitive_desc describe(const dnnl::engine& engine, const Shape& x,
                                                   const Conv3d& params, const Shape& out,
                                                   DataType operand) {
  const Shape& weight = params.weight.shape();
  const memory::dims strides(params.stride.begin(), params.stride.end());
  const memory::dims no_padding{0, 0, 0};
  const memory::desc weight_desc(weight_dims(weight), operand, Tag::any);
  const memory::desc bias_desc =
      params.bias ? memory::desc({weight[0]}, DataType::f32, Tag::x) : memory::desc();
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      activation_desc(x, operand), weight_desc, bias_desc, activation_desc(out, DataType::f32),
      strides, no_padding, no_padding);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // threads share the primitives
  if (params.residual) {
    dnnl::post_ops post_ops;
    post_ops.append_sum(1.0F);
    attributes.set_post_ops(post_ops);
  }
  return {desc, attributes, engine};
}

Plan make_plan(const dnnl::engine& engine, const TensorView& x, const Conv3d& params,
               const TensorView& out, std::int64_t num_rows) {
  const bool is_bf16 = params.weight.dtype() == DType::kBF16;
  const DataType operand = is_bf16 && cpu::prefers_bf16() ? DataType::bf16 : DataType::f32;
  const Shape in = input_shape(x, params, num_rows);
  const Shape to{1, num_rows, out.dim(2), out.dim(3)};
  cpu::check_room_for_primitive();
  auto desc = describe(engine, in, params, to, operand);
  const memory weight(
      {weight_dims(params.weight.shape()), is_bf16 ? DataType::bf16 : DataType::f32, Tag::oidhw},
      engine, params.weight.bytes());
  return {.x = in,
          .out = to,
          .desc = desc,
          .primitive = dnnl::convolution_forward(desc),
          .weight = cpu::arrange_weights(engine, weight, desc.weights_desc())};
}

// The input rows of the output row `row` of frame `frame` and of those below it, one after another.
void gather_input(const TensorView& x, const Conv3d& params, std::int64_t frame, std::int64_t row,
                  const Shape& shape, float* target) {
  const std::int64_t row_elements = x.dim(2) * x.dim(3);
  const std::int64_t num_elements = shape[1] * row_elements;
  for (std::int64_t tap = 0; tap < shape[0]; ++tap) {
    const std::int64_t in_row =
        (frame * params.stride[0] + tap) * x.dim(1) + row * params.stride[1];
    const float* source = x.f32().data() + in_row * row_elements;
    std::copy(source, source + num_elements, target + tap * num_elements);
  }
}

// Grown on demand and kept by each thread.
struct Buffers {
  Tensor f32, operand, scratchpad;

  static TensorView fit(Tensor& buffer, DType dtype, const Shape& shape) {
    const auto num_bytes = shape.num_elements() * static_cast<std::int64_t>(dtype_bytes(dtype));
    if (!buffer || buffer.view().num_elements() < num_bytes) {
      buffer = {};
      buffer = Tensor(DType::kU8, {num_bytes});
    }
    return {buffer.view().bytes(), dtype, shape};
  }
};

void run_band(const dnnl::engine& engine, const Plan& plan, const TensorView& x,
              const Conv3d& params, const TensorView& out, std::int64_t frame, std::int64_t row) {
  thread_local Buffers buffers;
  TensorView input = Buffers::fit(buffers.f32, DType::kF32, plan.x);
  gather_input(x, params, frame, row, plan.x, input.f32().data());
  if (plan.desc.src_desc().data_type() == DataType::bf16) {
    const TensorView rounded = Buffers::fit(buffers.operand, DType::kBF16, plan.x);
    cpu::convert_elements(engine, input, rounded);
    input = rounded;
  }
  const auto scratchpad_bytes = static_cast<std::int64_t>(plan.desc.scratchpad_desc().get_size());
  const TensorView scratchpad =
      Buffers::fit(buffers.scratchpad, DType::kU8, {std::max<std::int64_t>(scratchpad_bytes, 1)});
  const std::int64_t offset = (frame * out.dim(1) + row) * out.dim(2) * out.dim(3);
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(plan.desc.src_desc(), engine, input.bytes())},
      {DNNL_ARG_WEIGHTS, memory(plan.desc.weights_desc(), engine, plan.weight.view().bytes())},
      {DNNL_ARG_DST, memory(plan.desc.dst_desc(), engine, out.f32().data() + offset)},
      {DNNL_ARG_SCRATCHPAD, memory(plan.desc.scratchpad_desc(), engine, scratchpad.bytes())}};
  if (params.bias) {
    arguments.emplace(DNNL_ARG_BIAS, memory(plan.desc.bias_desc(), engine, params.bias.bytes()));
  }
  dnnl::stream stream(engine);
  plan.primitive.execute(stream, arguments);
  stream.wait();
}

void run(const dnnl::engine& engine, const TensorView& x, const Conv3d& params,
         const TensorView& out) {
  const SerialScope serial;  // plans are for one thread
  const Bands bands(x, params, out.shape());
  const Plan plan = make_plan(engine, x, params, out, bands.rows);
  const std::optional<Plan> last_plan =
      bands.last_rows == bands.rows
          ? std::nullopt
          : std::optional(make_plan(engine, x, params, out, bands.last_rows));
  parallel_for(0, out.dim(0) * bands.per_frame, 1, [&](std::int64_t begin, std::int64_t end) {
    const SerialScope serial_here;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t band = i % bands.per_frame;
      const bool is_last = last_plan && band == bands.per_frame - 1;
      run_band(engine, is_last ? *last_plan : plan, x, params, out, i / bands.per_frame,
               band * bands.rows);
    }
  });
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
  run(onednn_->engine, x, params, out);
} catch (const dnnl::error& error) {
  cpu::fail_as(error, fmt::format("conv3d: {} with weight {}", x.shape().to_string(),
                                  params.weight.shape().to_string()));
}

}  // namespace mochi
