// All operations: the list from which the interface of a backend is made. Each group ends with its
// part of it.
#pragma once

#include <tuple>
#include <utility>

#include "backend/ops/attention.h"
#include "backend/ops/columns.h"
#include "backend/ops/dense.h"
#include "backend/ops/dit.h"
#include "backend/ops/memory.h"
#include "backend/ops/sampler.h"
#include "backend/ops/text.h"
#include "backend/ops/vae.h"

namespace mochi::ops {

using All = decltype(std::tuple_cat(std::declval<MemoryOps>(), std::declval<DenseOps>(),
                                    std::declval<AttentionOps>(), std::declval<ColumnOps>(),
                                    std::declval<TextOps>(), std::declval<DitOps>(),
                                    std::declval<SamplerOps>(), std::declval<VaeOps>()));

}  // namespace mochi::ops
