// Answers the requests about services: message types 21 to 23.

import { createHash } from 'node:crypto'
import type { AgentPort } from '#model/agent-port.ts'
import type { ServiceKey } from '#model/command.ts'
import { invalid } from '#model/errors.ts'
import { parseNetworkName, parseServiceName } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { asPorts, asServiceAddresses, checkAffinity, parsePortText } from '#model/service.ts'
import type { ServiceView } from '#model/views.ts'
import { tenantServiceOf } from './answers.ts'
import { encodeService, type TenantService, type ZmqRequest } from './message.ts'
import { parseServiceDetail } from './service-detail.ts'

type ServiceRequest = Extract<ZmqRequest, { readonly service: TenantService }>

/** The struct that answers. @throws VxmeshError */
export async function carryOutService(
  agent: Pick<AgentPort, 'serviceCreate' | 'serviceDelete' | 'serviceShow'>,
  { kind, service }: ServiceRequest
): Promise<Buffer> {
  switch (kind) {
    case 'service-create':
      return answer(await create(agent, service))
    case 'service-delete':
      return answer(await agent.serviceDelete(keyOf(service)))
    case 'service-query':
      return answer(await agent.serviceShow(keyOf(service)))
  }
}

function create(agent: Pick<AgentPort, 'serviceCreate'>, requested: TenantService): Promise<ServiceView> {
  const { headless = false, addresses = [], select, backends, requestId } = parseServiceDetail(requested.serviceDetail)
  const asked: readonly Ip[] = [...(requested.requestIp === 0 ? [] : [requested.requestIp as Ipv4]), ...addresses]
  if ((select === undefined) === (backends === undefined))
    throw invalid('ServiceDetail.select', 'give either select or backends')
  if (headless && asked.length > 0) throw invalid('ServiceDetail.addresses', 'a headless service has none')
  const ports =
    requested.ports === '' ? [] : requested.ports.split(',').map(text => parsePortText(text.trim(), 'ports'))
  return agent.serviceCreate({
    ...keyOf(requested),
    headless,
    ports: asPorts(ports),
    affinitySeconds: checkAffinity(requested.affinity, 'affinity'),
    // A repeated request gets the same service, also through another agent.
    requestId: requestId ?? `zmq ${createHash('sha256').update(encodeService(requested)).digest('hex').slice(0, 32)}`,
    ...(asked.length === 0 ? {} : { addresses: asServiceAddresses(asked, 'ServiceDetail.addresses') }),
    ...(select === undefined ? {} : { select }),
    ...(backends === undefined ? {} : { backends })
  })
}

function keyOf({ network, name }: TenantService): ServiceKey {
  return { network: parseNetworkName(network, 'network'), name: parseServiceName(name) }
}

function answer(service: ServiceView): Buffer {
  return encodeService(tenantServiceOf(service))
}
