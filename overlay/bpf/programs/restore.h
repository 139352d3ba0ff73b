// The function beside a program that has PROGRAM as its section and delivers packets. Include it after the program.

#pragma once

#include "flows.h"

// See restore in flows.h.
BESIDE(PROGRAM) int restores(struct __sk_buff *skb, __u32 port)
{
  return !restore(skb, port);
}
