// A network's services as this host's data plane is to have them, computed by the caller from the replicated state. Pure.

import type { Ip } from '#model/ip.ts'
import type { Protocol } from '#model/service.ts'

export type DesiredBackend = { readonly address: Ip; readonly port: number }

export type DesiredServicePort = {
  readonly protocol: Protocol
  readonly port: number
  /** Up to BACKENDS_MAX; others are left out. */
  readonly backends: readonly DesiredBackend[]
}

/** One address of a service; a service of both families is two of these. */
export type DesiredService = {
  readonly address: Ip
  readonly ports: readonly DesiredServicePort[]
  /** 0: none. Otherwise a client has one backend for all its connections, while the backends stay. */
  readonly affinitySeconds: number
}
