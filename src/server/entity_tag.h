// Comparison of entity tags (RFC 9110, sections 8.8.3 and 13.1).
#pragma once

#include <string_view>

namespace mochi::server {

// Returns true if the header If-None-Match lists `tag` or is "*", so that the answer is 304. Weak
// tags match strong ones. `tag` has its quotes; the header may be empty.
bool is_none_match_hit(std::string_view if_none_match, std::string_view tag);

// Returns true if a range may be sent: the header If-Range is empty or equals `tag`, which is
// strong. Dates and weak tags do not match.
bool is_range_valid(std::string_view if_range, std::string_view tag);

}  // namespace mochi::server
