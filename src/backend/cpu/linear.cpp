// Matrix products, by oneDNN.
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <vector>

#include "backend/cpu/implement.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/simd_math.h"
#include "backend/two_steps.h"
#include "base/parallel_for.h"
#include "tensor/float_arrays.h"

namespace mochi::cpu {

namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Tag = memory::format_tag;

// The part of the matmul that one thread computes at a time. oneDNN's own split over threads
// changes the order of sums on some processors. This split, and so the result, depends on the sizes
// alone.
struct MatmulTile {
  std::int64_t num_rows;
  std::int64_t num_cols;
};

std::int64_t split_evenly(std::int64_t size, std::int64_t num_parts) {
  constexpr std::int64_t kUnit = 16;  // whole vector registers
  const std::int64_t part = (size + num_parts - 1) / num_parts;
  return (part + kUnit - 1) / kUnit * kUnit;
}

MatmulTile choose_tile(std::int64_t num_rows, std::int64_t num_cols) {
  constexpr std::int64_t kMaxRows = 256;
  constexpr std::int64_t kMinTiles = 8;  // few rows: columns are split, too, but not below
  constexpr std::int64_t kMinCols = 128;
  const std::int64_t num_row_tiles = (num_rows + kMaxRows - 1) / kMaxRows;
  const std::int64_t num_col_tiles =
      std::clamp<std::int64_t>(num_cols / kMinCols, 1, (kMinTiles - 1) / num_row_tiles + 1);
  return {split_evenly(num_rows, num_row_tiles), split_evenly(num_cols, num_col_tiles)};
}

// The last step of a product in oneDNN.
struct Epilogue {
  Activation activation = Activation::kNone;
  bool accumulate = false;
};

dnnl::primitive_attr linear_attributes(const Epilogue& epilogue) {
  dnnl::post_ops post_ops;
  if (epilogue.accumulate) post_ops.append_sum(1.0F);
  if (epilogue.activation == Activation::kSilu) {
    post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
  } else if (epilogue.activation == Activation::kGeluTanh) {
    post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_gelu_tanh, 0.0F, 0.0F);
  }
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post_ops);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // threads share the primitives
  return attributes;
}

// Returns room for elements of this shape, in memory that `buffer` keeps.
TensorView room_for(DType dtype, const Shape& shape, Tensor& buffer) {
  if (!buffer || buffer.view().num_elements() < shape.num_elements()) {
    buffer = Tensor(dtype, {shape.num_elements()});
  }
  return {buffer.view().bytes(), dtype, shape};
}

// Returns x in another float type.
TensorView convert(OneDnn& onednn, const TensorView& x, DType dtype, Tensor& buffer) {
  const TensorView converted = room_for(dtype, x.shape(), buffer);
  convert_elements(onednn.engine, x, converted);
  return converted;
}

// Returns 8-bit elements as F32.
TensorView widen_elements(const TensorView& x, Tensor& buffer) {
  const TensorView wide = room_for(DType::kF32, x.shape(), buffer);
  convert_to_f32(x.dtype(), {x.bytes(), x.size_bytes()}, wide.f32());
  return wide;
}

struct LinearOperands {
  TensorView x, weight, bias, out;
};

DataType data_type_of(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return DataType::bf16;
    case DType::kI8:
      return DataType::s8;
    case DType::kI32:
      return DataType::s32;
    default:
      return DataType::f32;
  }
}

struct TileDescs {
  memory::desc x, weight, bias, out;
};

TileDescs describe_tile(const LinearOperands& operands, const MatmulTile& tile) {
  const memory::dim in_features = operands.x.dim(1);
  const memory::dim out_features = operands.out.dim(1);
  const DataType type = data_type_of(operands.weight.dtype());
  return {.x = memory::desc({tile.num_rows, in_features}, type, Tag::ab),
          .weight = memory::desc({in_features, tile.num_cols}, type, Tag::ba),
          .bias = memory::desc({1, tile.num_cols}, DataType::f32, Tag::ab),
          .out = memory::desc({tile.num_rows, tile.num_cols}, data_type_of(operands.out.dtype()),
                              memory::dims{out_features, 1})};
}

const OneDnn::Linear& get_linear(OneDnn& onednn, const LinearOperands& operands,
                                 const MatmulTile& tile, const Epilogue& epilogue) {
  const bool has_bias = static_cast<bool>(operands.bias);
  const OneDnn::LinearKey key{tile.num_rows,       tile.num_cols,           operands.x.dim(1),
                              operands.out.dim(1), operands.weight.dtype(), has_bias,
                              epilogue.activation, epilogue.accumulate};
  auto found = onednn.linears.find(key);
  if (found == onednn.linears.end()) {
    check_room_for_primitive();
    const SerialScope serial;  // the plan is for one thread
    const TileDescs descs = describe_tile(operands, tile);
    const auto desc = has_bias ? dnnl::matmul::desc(descs.x, descs.weight, descs.bias, descs.out)
                               : dnnl::matmul::desc(descs.x, descs.weight, descs.out);
    const dnnl::matmul::primitive_desc primitive_desc(desc, linear_attributes(epilogue),
                                                      onednn.engine);
    const OneDnn::Linear linear{dnnl::matmul(primitive_desc), primitive_desc.scratchpad_desc()};
    found = onednn.linears.emplace(key, linear).first;
  }
  return found->second;
}

void multiply_tile(const OneDnn& onednn, const OneDnn::Linear& linear,
                   const LinearOperands& operands, const MatmulTile& tile, std::int64_t row,
                   std::int64_t col) {
  const auto at = [&](const memory::desc& desc, const TensorView& view, std::int64_t offset) {
    return memory(desc, onednn.engine,
                  view.bytes() + static_cast<std::size_t>(offset) * dtype_bytes(view.dtype()));
  };
  const std::int64_t in_features = operands.x.dim(1);
  const std::int64_t out_features = operands.out.dim(1);
  const TileDescs descs = describe_tile(operands, tile);
  thread_local std::vector<std::byte> scratch;
  scratch.resize(std::max(scratch.size(), linear.scratchpad.get_size()));
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, at(descs.x, operands.x, row * in_features)},
      {DNNL_ARG_WEIGHTS, at(descs.weight, operands.weight, col * in_features)},
      {DNNL_ARG_DST, at(descs.out, operands.out, row * out_features + col)},
      {DNNL_ARG_SCRATCHPAD, memory(linear.scratchpad, onednn.engine, scratch.data())}};
  if (operands.bias) arguments.emplace(DNNL_ARG_BIAS, at(descs.bias, operands.bias, col));
  dnnl::stream stream(onednn.engine);
  linear.primitive.execute(stream, arguments);
  stream.wait();
}

// Computes all tiles. Calls finish(tile, row, col) after each, on the thread that computed it.
template <typename Finish>
void multiply(OneDnn& onednn, const LinearOperands& operands, const Epilogue& epilogue,
              Finish finish) {
  const std::int64_t num_rows = operands.out.dim(0);
  const std::int64_t num_cols = operands.out.dim(1);
  const MatmulTile tile = choose_tile(num_rows, num_cols);
  const std::int64_t num_col_tiles = (num_cols + tile.num_cols - 1) / tile.num_cols;
  const std::int64_t num_tiles = (num_rows + tile.num_rows - 1) / tile.num_rows * num_col_tiles;
  // The last row and the last column of tiles may be smaller.
  const auto tile_at = [&](std::int64_t row, std::int64_t col) {
    return MatmulTile{std::min(tile.num_rows, num_rows - row),
                      std::min(tile.num_cols, num_cols - col)};
  };
  std::vector<const OneDnn::Linear*> primitives;
  for (std::int64_t i = 0; i < num_tiles; ++i) {
    const MatmulTile size =
        tile_at(i / num_col_tiles * tile.num_rows, i % num_col_tiles * tile.num_cols);
    primitives.push_back(&get_linear(onednn, operands, size, epilogue));
  }
  parallel_for(0, num_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    const SerialScope serial;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / num_col_tiles * tile.num_rows;
      const std::int64_t col = i % num_col_tiles * tile.num_cols;
      const MatmulTile size = tile_at(row, col);
      multiply_tile(onednn, *primitives[static_cast<std::size_t>(i)], operands, size, row, col);
      finish(size, row, col);
    }
  });
}

// out = act(out · scale of the row · scale of the column + bias) for a tile of sums of Sum.
template <typename Sum>
void scale_tile(const ops::Linear& op, const MatmulTile& tile, std::int64_t first_row,
                std::int64_t first_col) {
  const std::int64_t width = op.out.dim(1);
  const float* column_scales = data(op.weight.scales()) + first_col;
  const float* bias = op.bias ? data(op.bias) + first_col : nullptr;
  for (std::int64_t row = first_row; row < first_row + tile.num_rows; ++row) {
    const float row_scale = data(op.x.scales())[row];
    float* out = data(op.out) + row * width + first_col;
#pragma omp simd
    for (std::int64_t i = 0; i < tile.num_cols; ++i) {
      const auto sum = static_cast<float>(std::bit_cast<Sum>(out[i]));
      out[i] = sum * (row_scale * column_scales[i]);
    }
    if (bias != nullptr) {
#pragma omp simd
      for (std::int64_t i = 0; i < tile.num_cols; ++i) out[i] += bias[i];
    }
    const auto apply = [&](auto activate) {
#pragma omp simd
      for (std::int64_t i = 0; i < tile.num_cols; ++i) out[i] = activate(out[i]);
    };
    if (op.activation == Activation::kSilu) apply([](float x) { return silu(x); });
    if (op.activation == Activation::kGeluTanh) apply([](float x) { return gelu_tanh(x); });
  }
}

// The memory of `out` first holds the sums.
void multiply_quantised(OneDnn& onednn, const ops::Linear& op) {
  if (op.x.dtype() == DType::kI8 && sums_i8_exactly()) {
    const TensorView sums(op.out.bytes(), DType::kI32, op.out.shape());
    multiply(onednn, {op.x.values(), op.weight.values(), {}, sums}, {},
             [&](const MatmulTile& tile, std::int64_t row, std::int64_t col) {
               scale_tile<std::int32_t>(op, tile, row, col);
             });
    return;
  }
  multiply(onednn,
           {widen_elements(op.x.values(), onednn.f32_input),
            widen_elements(op.weight.values(), onednn.f32_weight),
            {},
            op.out},
           {}, [&](const MatmulTile& tile, std::int64_t row, std::int64_t col) {
             scale_tile<float>(op, tile, row, col);
           });
}

}  // namespace

void run(Cpu& cpu, const ops::Linear& op) try {
  OneDnn& onednn = cpu.onednn();
  if (op.x.is_quantised()) return multiply_quantised(onednn, op);
  const TensorView& weight = op.weight.dense();
  LinearOperands operands{op.x.values(), weight, op.bias, op.out};
  if (weight.dtype() == DType::kBF16 && has_bf16()) {
    operands.x = convert(onednn, operands.x, DType::kBF16, onednn.bf16_input);
  } else if (weight.dtype() == DType::kBF16) {
    operands.weight = convert(onednn, weight, DType::kF32, onednn.f32_weight);
  }
  multiply(onednn, operands, {op.activation, op.accumulate},
           [](const MatmulTile&, std::int64_t, std::int64_t) {});
} catch (const dnnl::error& error) {
  fail_as(error, fmt::format("linear: {} times {}", op.x.shape().to_string(),
                             op.weight.shape().to_string()));
}
template void compute(Cpu&, const ops::Linear&);

void run(Cpu& cpu, const ops::GatedLinear& op) { gated_linear_in_two_steps(cpu, op); }
template void compute(Cpu&, const ops::GatedLinear&);

void run(Cpu& cpu, const ops::QkvLinear& op) { qkv_linear_in_two_steps(cpu, op); }
template void compute(Cpu&, const ops::QkvLinear&);

}  // namespace mochi::cpu
