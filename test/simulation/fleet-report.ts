// What docs/reliability.md shows of the fleet: tables and a chart.
import { longestWindow } from '../../sw/session/backoff.js'
import { type Backoff, type Fleet, type Outcome, percentile, simulate } from './fleet.js'

export interface Scenario {
  title: string
  fleet: Fleet
}

const clients = 100_000

/** In the order of the docs. The first takes a second, all together half a minute. */
export const scenarios: readonly [Scenario, ...Scenario[]] = [
  {
    title: 'A usual day: tokens end spread over the hour, each client sends a request every 30 s',
    fleet: { clients, between: 30, together: false },
  },
  {
    title: 'Busy clients: the same with a request every second',
    fleet: { clients, between: 1, together: false },
  },
  {
    title: 'Everybody at once: all tokens are due when the outage begins, a request every second',
    fleet: { clients, between: 1, together: true },
  },
  {
    title: 'Everybody at once, and the server answers 500 refreshes a second',
    fleet: { clients, between: 1, together: true, capacity: 500 },
  },
]

const defaultWindow = longestWindow / 1000

const lines: readonly { backoff: Backoff; colour: string; dash?: string; width: number }[] = [
  { backoff: { longest: 30, jitter: true }, colour: '#d9730d', width: 2 },
  { backoff: { longest: 60, jitter: true }, colour: '#2f81f7', width: 3.5 },
  { backoff: { longest: 300, jitter: true }, colour: '#2da44e', width: 2 },
  { backoff: { longest: 60, jitter: false }, colour: '#c9549b', dash: '7 4', width: 2 },
]

export const nameOf = ({ longest, jitter }: Backoff): string => {
  if (!jitter) return `${longest} s, no jitter`
  return longest === defaultWindow ? `${longest} s (default)` : `${longest} s`
}

/** What each backoff does to this fleet, in the order of the table. */
export const outcomesOf = function* ({ fleet }: Scenario) {
  for (const { backoff } of lines) yield { backoff, outcome: simulate(fleet, backoff) }
}

/** Two digits: more would depend on the seed. */
const about = (count: number): string => Number(count.toPrecision(2)).toLocaleString('en-US')
const seconds = (time: number): string => `${Math.round(time)} s`

const rowOf = (backoff: Backoff, { rate, whileDown, peak, waits, failing }: Outcome): string => {
  let firstMinute = 0
  for (let second = 0; second < 60; second++) firstMinute += rate(second)
  const cells = [
    nameOf(backoff),
    about(whileDown),
    about(peak),
    about(firstMinute),
    ...[0.5, 0.95, 1].map((part) => seconds(percentile(waits, part))),
    seconds(percentile(failing, 0.95)),
  ]
  return `| ${cells.join(' | ')} |\n`
}

export const tableOf = (
  { title }: Scenario,
  outcomes: Iterable<{ backoff: Backoff; outcome: Outcome }>,
): string => {
  const head = [
    'Longest window',
    'Requests/s while down',
    'Peak/s after',
    'In the first minute',
    'New token: 50 %',
    '95 %',
    'all',
    'Requests fail on, 95 %',
  ]
  const rows = Array.from(outcomes, ({ backoff, outcome }) => rowOf(backoff, outcome))
  const rule = head.map(() => '---')
  return `**${title}**\n\n| ${head.join(' | ')} |\n| ${rule.join(' | ')} |\n${rows.join('')}`
}

const grey = '#767e88'
const width = 640
const left = 78
const right = 12
const panelHeight = 190
const [from, to, step] = [-60, 150, 3]

const x = (second: number) => left + ((second - from) / (to - from)) * (width - left - right)

const text = (at: [number, number], anchor: string, words: string, size = 19) =>
  `<text x="${at[0]}" y="${at[1]}" text-anchor="${anchor}" font-size="${size}">${words}</text>\n`

/** A round number of which two or three fit below `most`. */
const tickBelow = (most: number): number => {
  const power = 10 ** Math.floor(Math.log10(most))
  return [5, 2, 1, 0.5, 0.2].map((part) => part * power).find((tick) => 2 * tick <= most) ?? most
}

const panel = (top: number, title: string, outcomes: readonly Outcome[]): string => {
  const curves = outcomes.map(({ rate }) => {
    const points: [number, number][] = []
    for (let second = from; second < to; second += step) {
      let sum = 0
      for (let more = 0; more < step; more++) sum += rate(second + more)
      points.push([second + step / 2, sum / step])
    }
    return points
  })
  // Room above the curves for the words there.
  const most = 1.2 * Math.max(...curves.flat().map(([, rate]) => rate))
  const y = (rate: number) => top + panelHeight * (1 - rate / most)
  const tick = tickBelow(most)
  let svg = text([0, top - 14], 'start', title)
  for (let rate = 0; rate <= most; rate += tick) {
    const at = y(rate).toFixed(1)
    svg += `<path d="M${left} ${at}H${width - right}" stroke="${grey}" stroke-opacity="${rate ? 0.3 : 1}"/>\n`
    svg += text([left - 8, Number(at) + 6], 'end', rate.toLocaleString('en-US'))
  }
  svg += `<path d="M${x(0).toFixed(1)} ${top}V${top + panelHeight}" stroke="${grey}" stroke-dasharray="2 3"/>\n`
  svg += text([x(0) + 6, top + 16], 'start', 'server is back', 16)
  for (let second = from; second < to; second += 60) {
    const words = second > 0 ? `+${second} s` : `${second} s`.replace('-', '−')
    svg += text([x(second), top + panelHeight + 24], 'middle', words, 17)
  }
  for (const [index, curve] of curves.entries()) {
    const { colour, dash, width } = lines[index]!
    const points = curve.map(([second, rate]) => `${x(second).toFixed(1)} ${y(rate).toFixed(1)}`)
    const dashes = dash ? ` stroke-dasharray="${dash}"` : ''
    svg += `<path d="M${points.join('L')}" fill="none" stroke="${colour}" stroke-width="${width}"${dashes} stroke-linejoin="round"/>\n`
  }
  return svg
}

/** Requests per second around the recovery. Its colours stand out from white and from black. */
export const chartOf = (
  panels: readonly { title: string; outcomes: readonly Outcome[] }[],
): string => {
  const legendHeight = 62
  const pitch = panelHeight + 88
  const height = legendHeight + panels.length * pitch
  let body = ''
  for (const [index, { backoff, colour, dash, width: stroke }] of lines.entries()) {
    const at = [index % 2 ? 330 : 4, index < 2 ? 14 : 42] as const
    const dashes = dash ? ` stroke-dasharray="${dash}"` : ''
    body += `<path d="M${at[0]} ${at[1]}h44" stroke="${colour}" stroke-width="${stroke}"${dashes}/>\n`
    body += text([at[0] + 54, at[1] + 6], 'start', nameOf(backoff))
  }
  for (const [index, { title, outcomes }] of panels.entries()) {
    body += panel(legendHeight + 40 + index * pitch, title, outcomes)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" font-family="system-ui, sans-serif" fill="${grey}">
<title>Requests per second at the authorization server around its recovery</title>
${body}</svg>
`
}
