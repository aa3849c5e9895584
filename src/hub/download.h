// Downloads files into a folder: each appears under its name when it is complete and verified.
#pragma once

#include <filesystem>
#include <vector>

#include "hub/http.h"
#include "hub/plan.h"

namespace mochi::hub {

// Fetches what the folder lacks and reports to the client's observer. What a run that was ended or
// has failed leaves behind is used by the next one. Throws Error that names the file, for one that
// is in the way, too little space, a refusal of the server or a wrong checksum; Error if another
// process downloads into the folder; Cancelled.
void download(Client& client, const std::vector<PlannedFile>& plan,
              const std::filesystem::path& folder);

}  // namespace mochi::hub
