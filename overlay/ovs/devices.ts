// The host's devices as the switch's forwarding uses them.

import { readLink } from '../kernel/kernel.ts'
import type { DeviceHost } from '../linux/devices.ts'
import { execute } from '../linux/execute.ts'
import { observeDevices } from '../linux/observe.ts'
import type { SwitchDevices } from './forwarding.ts'

export function switchDevices(host: DeviceHost): SwitchDevices {
  const { kernel, networks } = host
  return {
    observe: only => observeDevices(kernel, only, host.support()),
    execute: ops => execute(host, ops),
    ifindexOf: name => readLink(kernel.socket, name)?.ifindex ?? 0,
    networks
  }
}
