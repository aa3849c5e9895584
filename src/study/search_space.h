// The configurations that a search can try, and the order of their qualities.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi::study {

// The cost of a configuration depends on these, too.
struct Workload {
  int num_steps = 0;   // least_steps() or more
  int num_layers = 0;  // layers of the transformer
};

// The methods that a search may use.
enum class SearchScope : std::uint8_t {
  kBoth,      // "both": each alone, and together
  kSkipping,  // "skipping": dense attention at some of the steps
  kSparsity,  // "sparsity": sparse attention at every step
};
inline constexpr std::array kSearchScopes{SearchScope::kBoth, SearchScope::kSkipping,
                                          SearchScope::kSparsity};
std::string_view name_of(SearchScope scope);
std::optional<SearchScope> parse_search_scope(std::string_view name);
// Returns the fewest sampling steps that leave something to search.
int least_steps(SearchScope scope);

// The position of sparse attention on the axes of the search.
struct SparsePlace {
  double top_keys = 0;
  int num_full_steps = 0;
  int num_dense_layers = 0;
  int score_queries = 1;
};

// The position of a configuration on all axes.
struct Place {
  int num_evaluated = 0;                   // steps that evaluate the transformer
  std::optional<SparsePlace> sparse = {};  // nothing: dense attention
};

// Returns whether `a` computes no more than `b` on any axis, and so is expected to be no closer to
// the dense video of all steps. Dense attention is the dense end of all axes of sparse attention.
bool is_as_sparse(const Place& a, const Place& b);

// Returns whether a configuration has a position. It has none if top_p chooses the columns or if a
// rule chooses the evaluated steps by measured values, because their number is unknown then.
bool has_place(const SparsityConfig& config);

Place place_of(const SparsityConfig& config, const Workload& workload);

// Returns the configuration of a position. Sparse attention has the start's other values.
SparsityConfig make_config(const SparsityConfig& start, const Place& place,
                           const Workload& workload);

// Returns positions of dense attention at some of the steps, by rising number of evaluations.
std::vector<Place> list_skipping_places(const Workload& workload);

// Returns the positions of sparse attention: at every step, or also with skipped steps.
std::vector<Place> list_sparse_places(const Workload& workload, bool skips_steps);

// Returns the start, and copies of it with each other delta.
std::vector<SparsityConfig> list_starts(const SparsityConfig& start);

// Returns the start without its step skipping.
SparsityConfig evaluate_every_step(SparsityConfig start);

// Adapts a configuration made for another workload: its number of full steps is spread over the
// steps of this one, and at least one layer stays sparse.
SparsityConfig fit_start(SparsityConfig start, const Workload& workload);

// Returns steps 0, 1 and later ones at equal distances: `count` of num_steps, 2 ≤ count ≤
// num_steps.
std::set<int> spread_full_steps(int count, int num_steps);

// "16 of 64 steps, half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1" or
// "16 of 64 steps, dense attention".
std::string describe_briefly(const SparsityConfig& config, const Workload& workload);

// "half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1" or "dense attention".
std::string describe_attention(const SparsityConfig& config, int num_steps);

}  // namespace mochi::study
