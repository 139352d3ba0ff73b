// Validates the commands about services before they enter the log, as parse-request.ts does the others. Pure.

import type { CommandOf } from './command.ts'
import { invalid } from './errors.ts'
import { asFields, flag, optional, text, wholeNumber, type Fields } from './fields.ts'
import { parseNetworkName, parseServiceName } from './ids.ts'
import type { Ip } from './ip.ts'
import { ip } from './ip-fields.ts'
import type { Selector } from './labels.ts'
import {
  asBackends,
  asPorts,
  asSelect,
  asServiceAddresses,
  checkAffinity,
  checkPort,
  checkProtocol,
  checkTerm,
  type Backend,
  type ServicePort
} from './service.ts'

type ServiceCommand = CommandOf<'service-create' | 'service-update' | 'service-delete'>

/** @throws ERR_INVALID naming the field */
export function parseServiceCommand(kind: ServiceCommand['kind'], f: Fields): ServiceCommand {
  const which = { network: parseNetworkName(text(f, 'network'), 'network'), name: parseServiceName(text(f, 'name')) }
  if (kind === 'service-delete') return { kind, ...which }
  const target = { ...optional(f, 'select', select), ...optional(f, 'backends', backends) }
  if (target.select !== undefined && target.backends !== undefined)
    throw invalid('backends', 'are chosen by select or named, not both')
  if (kind === 'service-update')
    return { kind, ...which, ...optional(f, 'ports', ports), ...optional(f, 'affinitySeconds', affinity), ...target }
  if (target.select === undefined && target.backends === undefined)
    throw invalid('select', 'a service needs a selector or backends')
  const headless = flag(f, 'headless')
  const asked = optional(f, 'addresses', addresses)
  if (headless && asked.addresses !== undefined) throw invalid('addresses', 'a headless service has none')
  return {
    kind,
    ...which,
    headless,
    ...asked,
    ports: ports(f, 'ports'),
    affinitySeconds: affinity(f, 'affinitySeconds'),
    ...target,
    ...optional(f, 'requestId', text)
  }
}

function ports(f: Fields, key: string): readonly ServicePort[] {
  const rows = listOf(f, key).map(one => asFields(one, key))
  return asPorts(
    rows.map(({ protocol, port, targetPort }) => ({
      protocol: checkProtocol(protocol, key),
      port: checkPort(port, key),
      targetPort: checkPort(targetPort, key)
    })),
    key
  )
}

function select(f: Fields, key: string): Selector {
  const rows = listOf(f, key).map(one => asFields(one, key))
  return asSelect(
    rows.map(row => checkTerm({ key: text(row, 'key'), value: row['value'] ?? undefined }, key)),
    key
  )
}

function backends(f: Fields, key: string): readonly Backend[] {
  const rows = listOf(f, key).map(one => asFields(one, key))
  const own = (row: Fields): Partial<Backend> => optional(row, 'port', (fields, name) => checkPort(fields[name], key))
  return asBackends(
    rows.map(row => ({ address: ip({ [key]: row['address'] }, key), ...own(row) })),
    key
  )
}

function addresses(f: Fields, key: string): readonly Ip[] {
  return asServiceAddresses(
    listOf(f, key).map(address => ip({ [key]: address }, key)),
    key
  )
}

function affinity(f: Fields, key: string): number {
  return checkAffinity(wholeNumber(f, key), key)
}

function listOf(f: Fields, key: string): readonly unknown[] {
  const list = f[key]
  if (Array.isArray(list)) return list as readonly unknown[]
  throw invalid(key, 'must be a list')
}
