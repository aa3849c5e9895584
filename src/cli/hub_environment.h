// The variables of the environment that programs of the Hugging Face hub share.
#pragma once

#include "hub/http.h"

namespace mochi::cli {

// HF_ENDPOINT, HF_TOKEN or the file of the token, HF_HUB_DOWNLOAD_TIMEOUT, and the certificates
// that CURL_CA_BUNDLE or SSL_CERT_FILE names. Throws Error that names a variable with a wrong
// value; a token is never shown.
hub::Settings read_hub_environment();

// Throws Error if HF_HUB_OFFLINE forbids requests.
void check_online();

}  // namespace mochi::cli
