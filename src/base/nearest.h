// Help for misspelt names: the nearest known one by edit distance.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace mochi {

// Levenshtein distance in bytes. Texts that differ in over 64 bytes each, from the first difference
// to the last, count as different in every byte between.
std::size_t edit_distance(std::string_view left, std::string_view right);

// The known name with the least edit distance (the first of equals); empty when none is known.
std::string_view nearest_name(std::string_view name, std::span<const std::string> known);

// Returns "did you mean 'y'?" if a known name is a likely meaning, else "known are: a, b, c".
// Likely are, in this order: a name with a letter or two misspelt; one that shares its words with
// `name`
// ("steps" and "num-steps", "output" and "out"); one that at least half of the letters agree with.
std::string suggest_name(std::string_view name, std::span<const std::string> known);

}  // namespace mochi
