// Hosts without agents for tests of the drivers: an underlay bridge in its own namespace, hosts on it, and containers.
// ip(8) and bridge(8), which are not our code, build and read everything.

import { randomBytes } from 'node:crypto'
import { run } from '#platform/process.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'

export type LabHost = { readonly name: string; readonly netns: string; readonly vtep: Ipv4 }
export type LabContainer = { readonly name: string; readonly netns: string }

export class Lab {
  readonly #prefix = `ovt${randomBytes(3).toString('hex')}`
  readonly #made: string[] = []
  readonly hosts: LabHost[] = []

  static async open(p: { hosts: number; mtu?: number }): Promise<Lab> {
    const lab = new Lab()
    try {
      const underlay = await lab.#netns('underlay')
      await lab.ip(underlay, 'link add br0 type bridge')
      await lab.ip(underlay, 'link set br0 up')
      for (let i = 1; i <= p.hosts; i++) await lab.#addHost(underlay, i, p.mtu ?? 1500)
      return lab
    } catch (err) {
      await lab.close()
      throw err
    }
  }

  async container(name: string): Promise<LabContainer> {
    const full = await this.#netns(`c-${name}`)
    return { name: full, netns: `/run/netns/${full}` }
  }

  host(index: number): LabHost {
    const host = this.hosts[index]
    if (host === undefined) throw new Error(`no host ${index}`)
    return host
  }

  /** Runs `ip -n NS ARGS`; throws unless it succeeds. */
  async ip(netns: string, args: string): Promise<string> {
    return must('ip', ['-n', netns, ...args.split(' ')])
  }

  async bridge(netns: string, args: string): Promise<string> {
    return must('bridge', ['-n', netns, ...args.split(' ')])
  }

  async json<T>(tool: 'ip' | 'bridge', netns: string, args: string): Promise<T[]> {
    const text = await must(tool, ['-j', '-d', '-n', netns, ...args.split(' ')])
    return text.trim() === '' ? [] : (JSON.parse(text) as T[])
  }

  /** How many of `count` pings were answered, without a warm-up; gives up `waitMs` after the last one if none was. */
  async ping(
    from: LabContainer,
    to: string,
    options: { count?: number; size?: number; waitMs?: number } = {}
  ): Promise<number> {
    const size = options.size === undefined ? [] : ['-M', 'do', '-s', String(options.size)]
    const count = [
      '-c',
      String(options.count ?? 3),
      '-i',
      '0.05',
      '-W',
      `${(options.waitMs ?? 1_000) / 1_000}`,
      ...size
    ]
    const { stdout } = await run('ip', ['netns', 'exec', from.name, 'ping', '-n', ...count, to])
    return Number(/([0-9]+) received/.exec(stdout)?.[1] ?? 0)
  }

  async remove(netns: string): Promise<void> {
    await run('ip', ['netns', 'del', netns])
    this.#made.splice(this.#made.indexOf(netns), 1)
  }

  async close(): Promise<void> {
    for (const name of this.#made.reverse()) await run('ip', ['netns', 'del', name])
  }

  async #netns(name: string): Promise<string> {
    const full = `${this.#prefix}-${name}`
    await must('ip', ['netns', 'add', full])
    this.#made.push(full)
    return full
  }

  async #addHost(underlay: string, index: number, mtu: number): Promise<void> {
    const name = await this.#netns(`h${index}`)
    const address = `192.0.2.${index}`
    await this.ip(underlay, `link add p${index} mtu ${mtu} type veth peer name eth0 netns ${name} mtu ${mtu}`)
    await this.ip(underlay, `link set p${index} master br0 up`)
    await this.ip(name, `addr add ${address}/24 dev eth0`)
    await this.ip(name, 'link set eth0 up')
    await this.ip(name, 'link set lo up')
    this.hosts.push({ name, netns: `/run/netns/${name}`, vtep: parseIpv4(address) })
  }
}

async function must(file: string, args: readonly string[]): Promise<string> {
  const result = await run(file, args)
  if (result.exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${result.stderr}`)
  return result.stdout
}

/** Why namespace tests cannot run here, or false. */
export function cannotRun(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root: namespaces, veth, VXLAN'
}
