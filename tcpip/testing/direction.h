// The two ways in which bytes pass between a client and a server.
//
// Threads: values.
#ifndef TCPIP_TESTING_DIRECTION_H_
#define TCPIP_TESTING_DIRECTION_H_

#include "tcpip/version.h"

namespace tcpip_testing {

// Which way bytes go.
enum class Direction {
  kToServer,  // what the client sends
  kToClient   // what the server sends
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_DIRECTION_H_
