// Loads the shared objects that it is given, catches what each throws, and has
// all of them work at once. It uses the library itself.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <string>
#include <vector>

#include "tcpip/error.h"

namespace {

template <class Function>
Function* find(void* plugin, const char* name) {
  void* const symbol = plugin == nullptr ? nullptr : ::dlsym(plugin, name);
  if (symbol == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    std::exit(1);
  }
  return reinterpret_cast<Function*>(symbol);
}

// Whether the class is known here, what() and code() too.
bool catches(void (&fail)()) {
  try {
    fail();
  } catch (const tcpip::ConnectionError& error) {
    return dynamic_cast<const tcpip::ConnectionRefusedError*>(&error) !=
               nullptr &&
           error.code() == std::errc::connection_refused &&
           std::string(error.what()).find(error.peer()) != std::string::npos;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "not caught: %s\n", error.what());
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<void*> plugins;
  for (int i = 1; i < argc; ++i) {
    plugins.push_back(::dlopen(argv[i], RTLD_NOW | RTLD_LOCAL));
    if (!catches(*find<void()>(plugins.back(), "plugin_fail"))) return 2;
  }
  std::vector<std::future<bool>> talks;
  for (void* plugin : plugins) {
    talks.push_back(std::async(std::launch::async,
                               find<bool(int)>(plugin, "plugin_talk"), 1000));
  }
  bool all = !talks.empty();
  for (auto& talk : talks) all = talk.get() && all;
  return all ? 0 : 3;
}
