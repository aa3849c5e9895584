#include "backend/cpu/onednn.h"

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

using dnnl::memory;

memory::desc elements_desc(std::int64_t num_elements, DType dtype) {
  const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  return {{num_elements}, type, memory::format_tag::a};
}

dnnl::reorder make_reorder(const dnnl::engine& engine, std::int64_t num_elements, DType from,
                           DType to) {
  check_room_for_primitive();
  const dnnl::reorder::primitive_desc desc(engine, elements_desc(num_elements, from), engine,
                                           elements_desc(num_elements, to));
  return dnnl::reorder(desc);
}

// How many output channels lie together in a blocked layout; all of them where the layout pads.
std::int64_t channels_per_block(const memory::desc& desc) {
  const auto& blocking = desc.data.format_desc.blocking;
  std::int64_t block = 1;
  for (int i = 0; i < blocking.inner_nblks; ++i) {
    if (blocking.inner_idxs[i] == 0) block *= blocking.inner_blks[i];
  }
  return desc.data.dims[0] % block == 0 ? block : desc.data.dims[0];
}

}  // namespace

void check_room_for_primitive() {
  constexpr std::size_t kRoomBytes = std::size_t{32} << 20;  // some dozens of kernels, 256 KiB each
  void* const room = ::mmap(nullptr, kRoomBytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    throw OutOfMemory(
        fmt::format("out of memory: wanted room for {} bytes on the host", kRoomBytes));
  }
  ::munmap(room, kRoomBytes);
}

void convert_elements(const dnnl::engine& engine, const TensorView& from, const TensorView& to) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 16;
  const SerialScope serial;  // the plan is for one thread
  const std::int64_t num_elements = from.num_elements();
  const std::int64_t num_pieces = (num_elements + kPiece - 1) / kPiece;
  if (num_pieces == 0) return;
  const std::int64_t rest = num_elements - (num_pieces - 1) * kPiece;
  const dnnl::reorder last = make_reorder(engine, rest, from.dtype(), to.dtype());
  const dnnl::reorder full =
      num_pieces > 1 ? make_reorder(engine, kPiece, from.dtype(), to.dtype()) : last;
  parallel_for(0, num_pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    const SerialScope serial_here;
    dnnl::stream stream(engine);
    for (std::int64_t i = begin; i < end; ++i) {
      const bool is_last = i == num_pieces - 1;
      const std::int64_t size = is_last ? rest : kPiece;
      const auto at = [&](const TensorView& view) {
        return memory(
            elements_desc(size, view.dtype()), engine,
            view.bytes() + static_cast<std::size_t>(i * kPiece) * dtype_bytes(view.dtype()));
      };
      memory source = at(from);
      memory target = at(to);
      (is_last ? last : full).execute(stream, source, target);
    }
    stream.wait();
  });
}

Tensor arrange_weights(const dnnl::engine& engine, const memory& weights,
                       const memory::desc& wanted) {
  const SerialScope serial;
  const memory::desc source_desc = weights.get_desc();
  Tensor arranged(DType::kU8, {static_cast<std::int64_t>(wanted.get_size())});
  const std::int64_t block = channels_per_block(wanted);
  parallel_for(0, source_desc.dims()[0] / block, 1, [&](std::int64_t begin, std::int64_t end) {
    const SerialScope serial_here;
    memory::dims dims = source_desc.dims();
    dims[0] = (end - begin) * block;
    const memory::dims offsets{begin * block, 0, 0, 0, 0};
    memory source(source_desc.submemory_desc(dims, offsets), engine, weights.get_data_handle());
    memory target(wanted.submemory_desc(dims, offsets), engine, arranged.view().bytes());
    dnnl::stream stream(engine);
    check_room_for_primitive();
    dnnl::reorder(source, target).execute(stream, source, target);
    stream.wait();
  });
  return arranged;
}

void fail_as(const dnnl::error& error, const std::string& operation) {
  if (error.status == dnnl_out_of_memory) {
    throw OutOfMemory(fmt::format("out of memory on the host: {}", operation));
  }
  fail("{} failed in oneDNN: {}", operation, error.what());
}

}  // namespace mochi::cpu
