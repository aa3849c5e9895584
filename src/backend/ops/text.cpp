#include "backend/ops/text.h"

namespace mochi::ops {

void Embedding::check(const Contract& c) const {
  c.rank("table", table, 2);
  c.shape("out", out, {static_cast<std::int64_t>(ids.size()), table.dim(1)});
  for (const std::int32_t id : ids) {
    c.require(id >= 0 && id < table.dim(0), "id " + std::to_string(id) + " is outside a table of " +
                                                std::to_string(table.dim(0)) + " rows");
  }
}

void RmsNorm::check(const Contract& c) const {
  c.rank("x", x, 2);
  c.shape("out", out, x.shape());
  c.shape("weight", weight, {x.dim(1)});
}

}  // namespace mochi::ops
