// One byte there and one back over one TCP connection, one request at a time. Both ends run on the same processor: where the
// scheduler puts them otherwise, and so what it costs to wake them, differs from run to run by more than what is measured.
//   ping-pong serve PORT                         answers one client
//   ping-pong ask ADDRESS PORT WARM_UP_MS MS     asks it, and prints rate and latency of the second period as JSON

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Neither end outlives a bench that is killed.
#define MAX_SECONDS 60
// More than any kernel answers while a bench lasts.
#define MAX_REQUESTS (1 << 22)

static uint32_t latency_ns[MAX_REQUESTS];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stay_on_one_processor(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) err(1, "sched_setaffinity");
}

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  return fd;
}

static void send_at_once(int fd) {
  int yes = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0) err(1, "TCP_NODELAY");
}

static struct sockaddr_in address_of(const char *text, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) errx(1, "%s is no IPv4 address", text);
  return address;
}

static void serve(const char *port) {
  struct sockaddr_in address = address_of("0.0.0.0", port);
  int listener = open_socket(), yes = 1;
  if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0) err(1, "SO_REUSEADDR");
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) err(1, "bind");
  if (listen(listener, 1) != 0) err(1, "listen");
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) err(1, "accept");
  send_at_once(fd);
  char byte;
  while (recv(fd, &byte, 1, 0) == 1)
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) break;
}

static void ask_once(int fd) {
  char byte = 'x';
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) err(1, "send");
  if (recv(fd, &byte, 1, 0) != 1) err(1, "recv");
}

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// The latency that a share of the requests, in percent, does not exceed: nearest rank.
static double quantile_us(uint64_t count, unsigned percent) {
  uint64_t rank = (count * percent + 99) / 100;
  return latency_ns[rank == 0 ? 0 : rank - 1] / 1e3;
}

static void ask(int fd, uint64_t warm_up_ns, uint64_t measured_ns) {
  uint64_t before = now_ns();
  uint64_t since = before + warm_up_ns;
  while (before < since) {
    ask_once(fd);
    before = now_ns();
  }
  uint64_t count = 0, start = before;
  while (before - start < measured_ns && count < MAX_REQUESTS) {
    ask_once(fd);
    uint64_t after = now_ns();
    uint64_t took = after - before;
    latency_ns[count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    before = after;
  }
  qsort(latency_ns, count, sizeof latency_ns[0], compare);
  double seconds = (double)(before - start) / 1e9;
  printf("{\"requestsPerSecond\":%.1f,\"p50Us\":%.2f,\"p99Us\":%.2f}\n", (double)count / seconds,
         quantile_us(count, 50), quantile_us(count, 99));
}

int main(int argc, char **argv) {
  alarm(MAX_SECONDS);
  stay_on_one_processor();
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    serve(argv[2]);
    return 0;
  }
  if (argc != 6 || strcmp(argv[1], "ask") != 0)
    errx(2, "usage: ping-pong serve PORT | ask ADDRESS PORT WARM_UP_MS MS");
  struct sockaddr_in address = address_of(argv[2], argv[3]);
  int fd = open_socket();
  send_at_once(fd);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) err(1, "connect");
  ask(fd, strtoull(argv[4], NULL, 10) * 1000000u, strtoull(argv[5], NULL, 10) * 1000000u);
  return 0;
}
