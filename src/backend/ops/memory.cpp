#include "backend/ops/memory.h"

namespace mochi::ops {

void Upload::check(const Contract& c) const {
  c.dtype("target", target, host.dtype());
  c.shape("target", target, host.shape());
}

void Download::check(const Contract& c) const {
  c.dtype("source", source, host.dtype());
  c.shape("source", source, host.shape());
}

void Copy::check(const Contract& c) const {
  c.require(
      source.num_elements() == target.num_elements(),
      "source is " + source.shape().to_string() + ", target is " + target.shape().to_string());
}

void Widen::check(const Contract& c) const {
  c.dtype("out", out, matrix.dtype());
  c.shape("out", out, matrix.shape());
}

void Transpose::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.dtype("out", out, x.dtype());
  c.shape("out", out, {x.dim(1), x.dim(0)});
}

void GatherRows::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.rank("indices", indices, 1);
  c.shape("out", out, {indices.dim(0), x.dim(1)});
}

}  // namespace mochi::ops
