// The configurations among which `mochi tune` looks, ordered by how much attention they leave.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "mochi/sparsity.h"

namespace mochi::study {

// What a configuration's cost depends on beside itself.
struct Workload {
  int num_steps = 0;   // 3 or more, else there is no sparse step
  int num_layers = 0;  // of the transformer
};

// Where a configuration stands on the axes that are searched.
struct Place {
  double top_keys = 0;
  int num_full_steps = 0;
  int num_dense_layers = 0;
  int score_queries = 1;
};

// Whether `a` does no more than `b` on any axis, and so is expected to be no nearer to dense.
bool is_as_sparse(const Place& a, const Place& b);

// The work of attention against that of dense attention, as the operations are counted: 1 for each
// dense layer and step; 1 + top_keys and the scoring at full steps; top_keys at sparse ones.
double estimate_cost(const Place& place, const Workload& workload);

struct Candidate {
  SparsityConfig config;
  Place place;
  double cost = 0;
};

// Whether a configuration has a place: not when top_p chooses the columns, whose number is not
// known then.
bool has_place(const SparsityConfig& config);

Candidate make_candidate(const SparsityConfig& config, const Workload& workload);

// All places for this delta, by rising cost; everything else is the start's.
std::vector<Candidate> list_candidates(const SparsityConfig& start, DeltaKind delta,
                                       const Workload& workload);

// The start, and the same with each other delta.
std::vector<SparsityConfig> list_starts(const SparsityConfig& start);

// A configuration made for another workload: its number of full steps is spread over the steps of
// this one, and a layer at least is left to be sparse.
SparsityConfig fit_start(SparsityConfig start, const Workload& workload);

// Steps 0, 1 and later ones at equal distances: `count` of num_steps, 2 ≤ count ≤ num_steps.
std::set<int> spread_full_steps(int count, int num_steps);

// "half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1".
std::string describe_briefly(const SparsityConfig& config, int num_steps);

}  // namespace mochi::study
