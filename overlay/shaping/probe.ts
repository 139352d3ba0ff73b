// Probes what this kernel can shape, in a scratch namespace that disappears when its socket is closed.

import { asVxmeshError } from '#model/errors.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Feature } from '../driver.ts'
import { attempt, readLink } from '../kernel/kernel.ts'
import { createIfb } from '../netlink/link.ts'
import { TC_H_ROOT } from '../netlink/tc-constants.ts'
import { addRedirect, createClsact, handleOf, replaceQdisc } from '../netlink/tc.ts'
import { queueFor, type ShapingSupport } from '../plan/shaping/queue.ts'

const MTU = 1400
const ALL: ShapingSupport = { rate: true, fqCodel: true, delay: true }

export type ShapingProbe = { readonly support: ShapingSupport; readonly features: readonly Feature[] }

/**
 * Takes a few milliseconds, and may cause the kernel to load modules. Never throws.
 * @param open a socket in a scratch namespace, which the probe closes
 */
export function probeShaping(open: () => NetlinkSocket = () => NetlinkSocket.openScratch()): ShapingProbe {
  const { rate, fqCodel, delay } = tryAll(open)
  return {
    support: { rate: rate === null, fqCodel: fqCodel === null, delay: delay === null },
    features: [
      feature('rate', rate, 'rates of containers are enforced'),
      feature('fq-codel', fqCodel, 'flows of a container share its rate fairly, with short queues'),
      feature('delay', delay, 'delays are added by netem')
    ]
  }
}

type Failures = Readonly<Record<keyof ShapingSupport, string | null>>

function tryAll(open: () => NetlinkSocket): Failures {
  let socket: NetlinkSocket
  try {
    socket = open()
  } catch (err) {
    const { message } = asVxmeshError(err)
    return { rate: message, fqCodel: message, delay: message }
  }
  try {
    return {
      rate: attempt(() => {
        const from = makeIfb(socket, 'f')
        putQueue(socket, from, { rate: 1e6, delayUs: 0, mtu: MTU, support: { ...ALL, fqCodel: false } })
        socket.request(createClsact(from), 'create clsact')
        socket.request(addRedirect({ ifindex: from, priority: 1, target: makeIfb(socket, 't') }), 'redirect')
      }),
      fqCodel: attempt(() => putQueue(socket, makeIfb(socket, 'q'), { rate: 1e6, delayUs: 0, mtu: MTU, support: ALL })),
      delay: attempt(() => putQueue(socket, makeIfb(socket, 'd'), { rate: 0, delayUs: 1, mtu: MTU, support: ALL }))
    }
  } finally {
    socket.close()
  }
}

function makeIfb(socket: NetlinkSocket, name: string): number {
  socket.request(createIfb({ name, mtu: MTU, group: 0 }), 'create IFB device')
  return readLink(socket, name)?.ifindex ?? 0
}

function putQueue(socket: NetlinkSocket, ifindex: number, request: Parameters<typeof queueFor>[0]): void {
  let parent = TC_H_ROOT
  for (const [level, spec] of queueFor(request).entries()) {
    const handle = handleOf(level + 1)
    socket.request(replaceQdisc({ ifindex, parent, handle }, spec), `set ${spec.kind}`)
    parent = handleOf(level + 1, 1)
  }
}

function feature(name: string, failure: string | null, detail: string): Feature {
  return { name, present: failure === null, required: false, detail: failure ?? detail }
}
