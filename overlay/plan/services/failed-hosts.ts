// Which backends of services take new connections: none on a host that has failed, as long as there are others. Established
// connections stay where they are, as they do when a backend is removed. Pure.

import type { Ip } from '#model/ip.ts'
import type { DesiredService, DesiredServicePort } from './service.ts'

/** Services that this does not concern stay the same objects. @param failed addresses of endpoints on hosts that have failed */
export function withoutFailed(services: readonly DesiredService[], failed: ReadonlySet<Ip>): readonly DesiredService[] {
  return services.map(service => {
    const ports = service.ports.map(port => withoutFailedBackends(port, failed))
    return ports.every((port, i) => port === service.ports[i]) ? service : { ...service, ports }
  })
}

function withoutFailedBackends(port: DesiredServicePort, failed: ReadonlySet<Ip>): DesiredServicePort {
  const backends = port.backends.filter(({ address }) => !failed.has(address))
  return backends.length === 0 || backends.length === port.backends.length ? port : { ...port, backends }
}
