// Convolutions on channels-last activations, by oneDNN where winograd.h has nothing faster.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "backend/cpu/implement.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/winograd.h"
#include "base/parallel_for.h"

namespace mochi::cpu {

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

  explicit Bands(const ops::Conv3d& op) {
    const std::int64_t num_rows = op.out.dim(1);
    constexpr std::int64_t kWantedBands = 64;
    constexpr std::int64_t kMinRows = 4;  // the rows around them are copied for every band
    constexpr std::int64_t kMaxElements = std::int64_t{4} << 20;
    const std::int64_t wanted = op.out.dim(0) * num_rows / kWantedBands;
    const std::int64_t elements_per_row =
        op.weight.dim(2) * op.stride[1] * op.x.dim(2) * op.x.dim(3);
    const std::int64_t most = std::max(kMaxElements / elements_per_row, kMinRows);
    rows = std::min(std::clamp(wanted, kMinRows, most), num_rows);
    per_frame = (num_rows + rows - 1) / rows;
    last_rows = num_rows - (per_frame - 1) * rows;
  }
};

// Sizes and scratch memory that a band of some number of rows needs.
struct Plan {
  Shape x, out;
  dnnl::convolution_forward::primitive_desc desc;
  dnnl::convolution_forward primitive;
  Tensor weight;  // in the layout that the primitive wants
};

Shape input_shape(const ops::Conv3d& op, std::int64_t out_rows) {
  return {op.weight.dim(2), (out_rows - 1) * op.stride[1] + op.weight.dim(3), op.x.dim(2),
          op.x.dim(3)};
}

dnnl::convolution_forward::primitive_desc describe(const dnnl::engine& engine, const Shape& x,
                                                   const Shape& out, const ops::Conv3d& op,
                                                   DataType operand) {
  const Shape& weight = op.weight.shape();
  const memory::dims strides(op.stride.begin(), op.stride.end());
  const memory::dims no_padding{0, 0, 0};
  const memory::desc weight_desc(weight_dims(weight), operand, Tag::any);
  const memory::desc bias_desc =
      op.bias ? memory::desc({weight[0]}, DataType::f32, Tag::x) : memory::desc();
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      activation_desc(x, operand), weight_desc, bias_desc, activation_desc(out, DataType::f32),
      strides, no_padding, no_padding);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // threads share the primitives
  if (op.residual) {
    dnnl::post_ops post_ops;
    post_ops.append_sum(1.0F);
    attributes.set_post_ops(post_ops);
  }
  return {desc, attributes, engine};
}

Plan make_plan(const dnnl::engine& engine, const ops::Conv3d& op, std::int64_t num_rows) {
  const bool is_bf16 = op.weight.dtype() == DType::kBF16;
  const DataType operand = is_bf16 && prefers_bf16() ? DataType::bf16 : DataType::f32;
  const Shape in = input_shape(op, num_rows);
  const Shape to{1, num_rows, op.out.dim(2), op.out.dim(3)};
  check_room_for_primitive();
  auto desc = describe(engine, in, to, op, operand);
  const memory weight(
      {weight_dims(op.weight.shape()), is_bf16 ? DataType::bf16 : DataType::f32, Tag::oidhw},
      engine, op.weight.bytes());
  return {.x = in,
          .out = to,
          .desc = desc,
          .primitive = dnnl::convolution_forward(desc),
          .weight = arrange_weights(engine, weight, desc.weights_desc())};
}

// The input rows of the output row `row` of frame `frame` and of those below it, one after another.
void gather_input(const ops::Conv3d& op, std::int64_t frame, std::int64_t row, const Shape& shape,
                  float* target) {
  const std::int64_t row_elements = op.x.dim(2) * op.x.dim(3);
  const std::int64_t num_elements = shape[1] * row_elements;
  for (std::int64_t tap = 0; tap < shape[0]; ++tap) {
    const std::int64_t in_row = (frame * op.stride[0] + tap) * op.x.dim(1) + row * op.stride[1];
    const float* source = op.x.f32().data() + in_row * row_elements;
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

void run_band(const dnnl::engine& engine, const Plan& plan, const ops::Conv3d& op,
              std::int64_t frame, std::int64_t row) {
  thread_local Buffers buffers;
  TensorView input = Buffers::fit(buffers.f32, DType::kF32, plan.x);
  gather_input(op, frame, row, plan.x, input.f32().data());
  if (plan.desc.src_desc().data_type() == DataType::bf16) {
    const TensorView rounded = Buffers::fit(buffers.operand, DType::kBF16, plan.x);
    convert_elements(engine, input, rounded);
    input = rounded;
  }
  const auto scratchpad_bytes = static_cast<std::int64_t>(plan.desc.scratchpad_desc().get_size());
  const TensorView scratchpad =
      Buffers::fit(buffers.scratchpad, DType::kU8, {std::max<std::int64_t>(scratchpad_bytes, 1)});
  const std::int64_t offset = (frame * op.out.dim(1) + row) * op.out.dim(2) * op.out.dim(3);
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(plan.desc.src_desc(), engine, input.bytes())},
      {DNNL_ARG_WEIGHTS, memory(plan.desc.weights_desc(), engine, plan.weight.view().bytes())},
      {DNNL_ARG_DST, memory(plan.desc.dst_desc(), engine, op.out.f32().data() + offset)},
      {DNNL_ARG_SCRATCHPAD, memory(plan.desc.scratchpad_desc(), engine, scratchpad.bytes())}};
  if (op.bias) {
    arguments.emplace(DNNL_ARG_BIAS, memory(plan.desc.bias_desc(), engine, op.bias.bytes()));
  }
  dnnl::stream stream(engine);
  plan.primitive.execute(stream, arguments);
  stream.wait();
}

void run_bands(const dnnl::engine& engine, const ops::Conv3d& op) {
  const SerialScope serial;  // plans are for one thread
  const Bands bands(op);
  const Plan plan = make_plan(engine, op, bands.rows);
  const std::optional<Plan> last_plan = bands.last_rows == bands.rows
                                            ? std::nullopt
                                            : std::optional(make_plan(engine, op, bands.last_rows));
  parallel_for(0, op.out.dim(0) * bands.per_frame, 1, [&](std::int64_t begin, std::int64_t end) {
    const SerialScope serial_here;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t band = i % bands.per_frame;
      const bool is_last = last_plan && band == bands.per_frame - 1;
      run_band(engine, is_last ? *last_plan : plan, op, i / bands.per_frame, band * bands.rows);
    }
  });
}

// A matrix product, then.
bool is_pixelwise(const ops::Conv3d& op) {
  const Shape& weight = op.weight.shape();
  const bool has_one_tap = weight[2] == 1 && weight[3] == 1 && weight[4] == 1;
  return has_one_tap && op.stride == std::array{1, 1, 1};
}

}  // namespace

void run(Cpu& cpu, const ops::Conv3d& op) try {
  // Matmuls and oneDNN add to what the output holds.
  const auto copy_residual = [&] {
    if (op.residual && op.residual.bytes() != op.out.bytes()) {
      compute(cpu, ops::Copy{.source = op.residual, .target = op.out});
    }
  };
  if (is_pixelwise(op)) {
    copy_residual();
    const std::int64_t num_pixels = op.out.num_elements() / op.out.dim(3);
    compute(cpu, ops::Linear{.x = op.x.reshape({num_pixels, op.x.dim(3)}),
                             .weight = op.weight.reshape({op.out.dim(3), op.x.dim(3)}),
                             .bias = op.bias,
                             .out = op.out.reshape({num_pixels, op.out.dim(3)}),
                             .accumulate = static_cast<bool>(op.residual)});
    return;
  }
  const bool has_bf16_tiles = op.weight.dtype() == DType::kBF16 && prefers_bf16();
  if (!has_bf16_tiles && suits_winograd(op)) {
    conv3d_winograd(op);
    return;
  }
  copy_residual();
  run_bands(cpu.onednn().engine, op);
} catch (const dnnl::error& error) {
  fail_as(error, fmt::format("conv3d: {} with weight {}", op.x.shape().to_string(),
                             op.weight.shape().to_string()));
}
template void compute(Cpu&, const ops::Conv3d&);

}  // namespace mochi::cpu
