// Lets the environment say what is wrong with an emulated `tandem`'s machine, by the names of
// control.h: TANDEM_EMULATED="devices=0" or "memory_bytes=100000,fail_after=200".
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <sstream>
#include <string>

#include "emulation/control.h"

namespace {

void set(const std::string& name, int64_t value) {
  using namespace cuda_emulation;
  const std::map<std::string, std::function<void()>> controls{
      {"devices", [&] { set_devices(static_cast<int>(value)); }},
      {"driver_version", [&] { set_driver_version(static_cast<int>(value)); }},
      {"memory_bytes", [&] { set_memory_bytes(value); }},
      {"integrated", [&] { set_integrated(value != 0); }},
      {"peer_access", [&] { set_peer_access(value != 0); }},
      {"fail_after", [&] { fail_after(static_cast<int>(value)); }},
      {"fail_while_running_after", [&] { fail_while_running_after(static_cast<int>(value)); }}};
  controls.at(name)();
}

const bool kIsSet = [] {
  const char* text = std::getenv("TANDEM_EMULATED");
  std::istringstream pieces(text == nullptr ? "" : text);
  for (std::string piece; std::getline(pieces, piece, ',');) {
    const size_t equals = piece.find('=');
    set(piece.substr(0, equals), std::stoll(piece.substr(equals + 1)));
  }
  return true;
}();

}  // namespace
