// The host's devices as the switch's forwarding uses them.

import { readLink } from '../kernel/kernel.ts'
import type { DeviceHost } from '../linux/devices.ts'
import { execute } from '../linux/execute.ts'
import { observeDevices } from '../linux/observe.ts'
import type { SwitchDevices } from './forwarding.ts'

export function switchDevices(host: DeviceHost): SwitchDevices {
  const { kernel, networks, indexes, sampling } = host
  return {
    observe: only => {
      if (only === null) {
        indexes.clear()
        sampling.next()
      }
      return observeDevices(kernel, only, { support: host.support(), sampling })
    },
    execute: async ops => {
      const { done, skipped, failures } = await execute(host, ops)
      const failed = failures.flatMap(({ op, error }) =>
        ops.filter(other => other === op).map(own => ({ op: own, error }))
      )
      return { done, skipped, failures: failed }
    },
    ifindexOf: name => readLink(kernel.socket, name)?.ifindex ?? 0,
    networks
  }
}
