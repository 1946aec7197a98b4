// How to test a server of your own with //tcpip/testing.
//
// The fixture makes the controller and its clients on free ports and closes
// them at the end. //tcpip/testing:main, which this program is linked with,
// fails a test that leaves a thread or a descriptor behind.
#include "examples/dome_controller.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/testing/one_client_server_test_case.h"

namespace {

using namespace std::chrono_literals;

class DomeControllerTest
    : public tcpip_testing::BaseOneClientServerTestCase<DomeController> {
 protected:
  static std::string ask(tcpip::Client& client, const std::string& command) {
    client.write_str(command, 5s);
    return client.read_str(5s);
  }
};

TEST_F(DomeControllerTest, ObeysCommands) {
  DomeController& dome = create_server();
  tcpip::Client& client = create_client(dome);

  EXPECT_EQ(ask(client, "status"), "azimuth 0, shutter closed");
  EXPECT_EQ(ask(client, "move 120.5"), "ok");
  EXPECT_EQ(ask(client, "open"), "ok");
  EXPECT_EQ(ask(client, "status"), "azimuth 120.5, shutter open");
  EXPECT_EQ(dome.azimuth(), 120.5);
  EXPECT_TRUE(dome.is_open());
}

TEST_F(DomeControllerTest, RefusesWhatItDoesNotUnderstand) {
  tcpip::Client& client = create_client(create_server());

  EXPECT_EQ(ask(client, "dance"), "error: unknown command: dance");
  for (const std::string command :
       {"move", "move far", "move -1", "move 360"}) {
    EXPECT_EQ(ask(client, command),
              "error: move needs an azimuth of 0 to 360 degrees");
  }
  EXPECT_EQ(ask(client, "status"), "azimuth 0, shutter closed");
}

TEST_F(DomeControllerTest, ClosesTheShutterWhenTheClientIsLost) {
  DomeController& dome = create_server();
  tcpip::Client& client = create_client(dome);
  assert_next_connected(true);
  EXPECT_EQ(ask(client, "open"), "ok");

  client.close();
  // The controller passes the event on when it has done its part.
  assert_next_disconnected(tcpip::DisconnectReason::kPeerClosed);
  EXPECT_FALSE(dome.is_open());
}

TEST_F(DomeControllerTest, ServesOneClientAtATime) {
  DomeController& dome = create_server();
  tcpip::Client& first = create_client(dome);
  tcpip::Client& second = create_client(dome, {}, /*wait_connected=*/false);

  events_of(second).assert_next_connected(true);
  events_of(second).assert_next_connected(false);  // it was turned away
  EXPECT_EQ(ask(first, "close"), "ok");
}

}  // namespace
