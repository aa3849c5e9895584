// The configurations that a search can try, ordered by the attention that they compute.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi::study {

// The cost of a configuration depends on these, too.
struct Workload {
  int num_steps = 0;   // 3 or more, else there is no sparse step
  int num_layers = 0;  // layers of the transformer
};

// The position of a configuration on the axes of the search.
struct Place {
  double top_keys = 0;
  int num_full_steps = 0;
  int num_dense_layers = 0;
  int score_queries = 1;
};

// Returns whether `a` computes no more than `b` on any axis, and so is expected to be no closer to
// dense.
bool is_as_sparse(const Place& a, const Place& b);

// Returns the operations of attention relative to dense attention: 1 for each dense layer and step;
// 1 + top_keys and the scoring at full steps; top_keys at sparse ones.
double estimate_cost(const Place& place, const Workload& workload);

struct Candidate {
  SparsityConfig config;
  Place place;
  double cost = 0;
};

// Returns whether a configuration has a position. It has none if top_p chooses the columns, because
// their number is unknown then.
bool has_place(const SparsityConfig& config);

Candidate make_candidate(const SparsityConfig& config, const Workload& workload);

// Returns all positions for this delta, by rising cost, with the other values of the start.
std::vector<Candidate> list_candidates(const SparsityConfig& start, DeltaKind delta,
                                       const Workload& workload);

// Returns the start, and copies of it with each other delta.
std::vector<SparsityConfig> list_starts(const SparsityConfig& start);

// Adapts a configuration made for another workload: its number of full steps is spread over the
// steps of this one, and at least one layer stays sparse.
SparsityConfig fit_start(SparsityConfig start, const Workload& workload);

// Returns steps 0, 1 and later ones at equal distances: `count` of num_steps, 2 ≤ count ≤
// num_steps.
std::set<int> spread_full_steps(int count, int num_steps);

// "half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1".
std::string describe_briefly(const SparsityConfig& config, int num_steps);

}  // namespace mochi::study
