// Help for misspelt keys of a configuration.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mochi {

// "did you mean 'attn.top_keys'?" if a known key is similar to `key`, else the known keys. Keys are
// similar if they have the same last part in another section ("top_keys"), the same initials in the
// same section ("attn.rk"), some of the same words ("attn.schedule"), or nearly the same letters.
std::string suggest_key(std::string_view key, std::span<const std::string> known);

}  // namespace mochi
