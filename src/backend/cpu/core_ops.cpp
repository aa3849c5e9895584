// Copies, elementwise operations and row norms that every network uses.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/implement.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/row_writer.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"
#include "tensor/float_arrays.h"

namespace mochi::cpu {

namespace {

// out = activate(a)·b for rows (a | b) of x.
template <typename Activate>
void gate_rows(const TensorView& x, const MatrixView& out, Activate activate) {
  const std::int64_t features = out.dim(1);
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (features + 1));
  parallel_for(0, out.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* a = data(x) + row * 2 * features;
      const float* b = a + features;
      write_row(out, row, [&](float* y) {
#pragma omp simd
        for (std::int64_t i = 0; i < features; ++i) y[i] = activate(a[i]) * b[i];
      });
    }
  });
}

template <typename Element>
void transpose_rows(const TensorView& x, const TensorView& out) {
  const std::int64_t num_rows = out.dim(0);
  const std::int64_t width = out.dim(1);
  const auto* from = reinterpret_cast<const Element*>(x.bytes());
  auto* to = reinterpret_cast<Element*>(out.bytes());
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (width + 1));
  parallel_for(0, num_rows, grain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t i = 0; i < width; ++i) to[row * width + i] = from[i * num_rows + row];
    }
  });
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::Upload& op) {
  std::memcpy(op.target.bytes(), op.host.bytes(), op.host.size_bytes());
}
template void compute(Cpu&, const ops::Upload&);

void run(Cpu& /*cpu*/, const ops::Download& op) {
  std::memcpy(op.host.bytes(), op.source.bytes(), op.source.size_bytes());
}
template void compute(Cpu&, const ops::Download&);

void run(Cpu& /*cpu*/, const ops::Await& op) { op.transfer.await(); }
template void compute(Cpu&, const ops::Await&);

void run(Cpu& /*cpu*/, const ops::Copy& op) {
  const std::byte* from = op.source.bytes();
  std::byte* to = op.target.bytes();
  const auto num_bytes = static_cast<std::int64_t>(op.source.size_bytes());
  parallel_for(0, num_bytes, kElementGrain * 4, [=](std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
  });
}
template void compute(Cpu&, const ops::Copy&);

void run(Cpu& /*cpu*/, const ops::Add& op) {
  const float* left = data(op.a);
  const float* right = data(op.b);
  float* result = data(op.out);
  parallel_for(0, op.a.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) result[i] = left[i] + right[i];
  });
}
template void compute(Cpu&, const ops::Add&);

void run(Cpu& /*cpu*/, const ops::Silu& op) {
  const float* in = data(op.x);
  float* result = data(op.out);
  parallel_for(0, op.x.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) result[i] = silu(in[i]);
  });
}
template void compute(Cpu&, const ops::Silu&);

void run(Cpu& /*cpu*/, const ops::MeanRows& op) {
  const std::int64_t rows = op.rows_of_block();
  const std::int64_t width = op.x.dim(1);
  parallel_for(0, op.out.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * rows;
      const std::int64_t num_rows = std::min(rows, op.x.dim(0) - first);
      float* mean = data(op.out) + block * width;
      std::fill(mean, mean + width, 0.0F);
      for (std::int64_t row = first; row < first + num_rows; ++row) {
        const float* in = data(op.x) + row * width;
        for (std::int64_t i = 0; i < width; ++i) mean[i] += in[i];
      }
      const float factor = num_rows > 0 ? 1.0F / static_cast<float>(num_rows) : 0.0F;
      for (std::int64_t i = 0; i < width; ++i) mean[i] *= factor;
    }
  });
}
template void compute(Cpu&, const ops::MeanRows&);

void run(Cpu& /*cpu*/, const ops::QuantiseRows& op) {
  const TensorView& elements = op.out.values();
  TensorView values = op.x;
  Tensor wide;
  if (values.dtype() != DType::kF32) {
    wide = Tensor(DType::kF32, values.shape());
    convert_to_f32(values.dtype(), {values.bytes(), values.size_bytes()}, wide.view().f32());
    values = wide;
  }
  quantise_rows(op.out.dtype(), values.f32(), {elements.bytes(), elements.size_bytes()},
                op.out.scales().f32());
}
template void compute(Cpu&, const ops::QuantiseRows&);

void run(Cpu& /*cpu*/, const ops::Transpose& op) {
  if (op.x.dense().dtype() == DType::kF32) {
    transpose_rows<float>(op.x.dense(), op.out);
  } else {
    transpose_rows<BFloat16>(op.x.dense(), op.out);
  }
}
template void compute(Cpu&, const ops::Transpose&);

void run(Cpu& /*cpu*/, const ops::GatedActivation& op) {
  switch (op.activation) {
    case Activation::kNone:
      return gate_rows(op.x, op.out, [](float a) { return a; });
    case Activation::kSilu:
      return gate_rows(op.x, op.out, [](float a) { return silu(a); });
    case Activation::kGeluTanh:
      return gate_rows(op.x, op.out, [](float a) { return gelu_tanh(a); });
  }
}
template void compute(Cpu&, const ops::GatedActivation&);

void run(Cpu& /*cpu*/, const ops::Embedding& op) {
  const std::int64_t width = op.table.dim(1);
  for (std::size_t row = 0; row < op.ids.size(); ++row) {
    const std::int64_t first = op.ids[row] * width;
    float* y = data(op.out) + static_cast<std::int64_t>(row) * width;
    if (op.table.dtype() == DType::kF32) {
      std::memcpy(y, data(op.table) + first, static_cast<std::size_t>(width) * sizeof(float));
      continue;
    }
    const auto* in = reinterpret_cast<const BFloat16*>(op.table.bytes()) + first;
    for (std::int64_t i = 0; i < width; ++i) {
      y[i] = std::bit_cast<float>(static_cast<std::uint32_t>(in[i].bits) << 16);
    }
  }
}
template void compute(Cpu&, const ops::Embedding&);

void run(Cpu& /*cpu*/, const ops::GatherRows& op) {
  const std::int64_t width = op.x.dim(1);
  const auto* index = reinterpret_cast<const std::int32_t*>(op.indices.bytes());
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (width + 1));
  parallel_for(0, op.out.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::copy_n(data(op.x) + index[row] * width, width, data(op.out) + row * width);
    }
  });
}
template void compute(Cpu&, const ops::GatherRows&);

void run(Cpu& /*cpu*/, const ops::GuidedEuler& op) {
  const float* cond = data(op.v_cond);
  const float* null = data(op.v_null);
  float* state = data(op.z);
  const float cfg = op.cfg;
  const float dsigma = op.dsigma;
  parallel_for(0, op.z.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      state[i] += dsigma * (null[i] + cfg * (cond[i] - null[i]));
    }
  });
}
template void compute(Cpu&, const ops::GuidedEuler&);

void run(Cpu& /*cpu*/, const ops::WeightedSum& op) {
  const float* x = data(op.a);
  const float* y = data(op.b);
  float* sum = data(op.out);
  const float weight_x = op.weight_a;
  const float weight_y = op.weight_b;
  parallel_for(0, op.out.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) sum[i] = weight_x * x[i] + weight_y * y[i];
  });
}
template void compute(Cpu&, const ops::WeightedSum&);

// Sums are taken per block of a fixed size, so that they do not depend on the number of threads.
void run(Cpu& /*cpu*/, const ops::DifferenceNorms& op) {
  constexpr std::int64_t kBlock = 1 << 14;
  const std::int64_t size = op.b.num_elements();
  std::vector<std::array<double, 2>> sums(static_cast<std::size_t>((size + kBlock - 1) / kBlock));
  const float* x = data(op.a);
  const float* y = data(op.b);
  parallel_for(0, std::ssize(sums), 1, [&, x, y](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      double difference = 0;
      double norm = 0;
      const std::int64_t stop = std::min(size, (block + 1) * kBlock);
#pragma omp simd reduction(+ : difference, norm)
      for (std::int64_t i = block * kBlock; i < stop; ++i) {
        const double d = static_cast<double>(x[i]) - y[i];
        difference += d * d;
        norm += static_cast<double>(y[i]) * y[i];
      }
      sums[static_cast<std::size_t>(block)] = {difference, norm};
    }
  });
  std::array<double, 2> total{};
  for (const auto& sum : sums) {
    total[0] += sum[0];
    total[1] += sum[1];
  }
  for (std::size_t i = 0; i < 2; ++i) data(op.out)[i] = static_cast<float>(std::sqrt(total[i]));
}
template void compute(Cpu&, const ops::DifferenceNorms&);

}  // namespace mochi::cpu
