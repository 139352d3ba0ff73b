// A strict parser of Prometheus's text format (version 0.0.4): every violation is an error that names the line.

export type Series = {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}
export type MetricFamily = { readonly name: string; readonly type: string; readonly help: string; series: Series[] }

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  gauge: [''],
  counter: [''],
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count']
}

/** @throws Error naming the first invalid line, or an inconsistent histogram */
export function parseExposition(text: string): Map<string, MetricFamily> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const families = new Map<string, MetricFamily>()
  const seen = new Set<string>()
  let help: { readonly name: string; readonly text: string } | null = null
  let family: MetricFamily | null = null
  for (const line of text.slice(0, -1).split('\n')) {
    const wrong = (why: string): Error => new Error(`${why}: ${JSON.stringify(line)}`)
    const [, what, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? []
    if (line === '') continue
    else if (what === 'HELP') {
      if (!NAME.test(name) || rest === '' || families.has(name)) throw wrong('HELP')
      help = { name, text: rest }
    } else if (what === 'TYPE') {
      if (help?.name !== name || SUFFIXES[rest] === undefined) throw wrong('TYPE')
      family = { name, type: rest, help: help.text, series: [] }
      families.set(name, family)
    } else {
      const [, series = '', inside, figure = ''] = SAMPLE.exec(line) ?? []
      if (family === null || figure === '') throw wrong('no sample')
      const suffix = series.startsWith(family.name) ? series.slice(family.name.length) : null
      if (suffix === null || SUFFIXES[family.type]?.includes(suffix) !== true) throw wrong(`not of ${family.name}`)
      const labels = parseLabels(inside ?? '', wrong)
      const identity = `${series} ${JSON.stringify(Object.entries(labels).sort())}`
      if (seen.has(identity)) throw wrong('twice')
      seen.add(identity)
      const value = Number(figure.replace('Inf', 'Infinity'))
      if (family.type === 'counter' && !(value >= 0)) throw wrong('a counter below 0')
      family.series.push({ name: series, labels, value })
    }
  }
  for (const one of families.values()) if (one.type === 'histogram') checkHistogram(one)
  return families
}

/** The value of the series with these labels. @throws Error if there is none */
export function figure(families: ReadonlyMap<string, MetricFamily>, name: string, labels: object = {}): number {
  const all = [...families.values()].flatMap(family => family.series).filter(series => series.name === name)
  const found = all.find(series => Object.entries(labels).every(([key, value]) => series.labels[key] === value))
  if (found === undefined) throw new Error(`no ${name} ${JSON.stringify(labels)}`)
  return found.value
}

function parseLabels(inside: string, wrong: (why: string) => Error): Record<string, string> {
  const labels: Record<string, string> = {}
  for (let rest = inside; rest !== '';) {
    const [whole, name = '', value = ''] = LABEL.exec(rest) ?? []
    if (whole === undefined || name in labels) throw wrong('labels')
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))
    rest = rest.slice(whole.length)
  }
  return labels
}

/** Buckets are cumulative and end with +Inf, which equals the count. */
function checkHistogram({ name, series }: MetricFamily): void {
  const groups = new Map<string, Series[]>()
  for (const one of series) {
    const { le: _, ...labels } = one.labels
    const key = JSON.stringify(labels)
    groups.set(key, [...(groups.get(key) ?? []), one])
  }
  for (const [key, group] of groups) {
    const buckets = group.filter(one => one.name === `${name}_bucket`)
    const bounds = buckets.map(({ labels }) => Number(labels['le']?.replace('Inf', 'Infinity')))
    const counts = buckets.map(({ value }) => value)
    const count = group.find(one => one.name === `${name}_count`)?.value
    const rises = (list: number[]): boolean => list.every((value, at) => at === 0 || value >= (list[at - 1] ?? NaN))
    if (!rises(bounds) || !rises(counts)) throw new Error(`${name}${key}: buckets do not rise`)
    if (bounds.at(-1) !== Infinity || counts.at(-1) !== count)
      throw new Error(`${name}${key}: no +Inf that is the count`)
  }
}
