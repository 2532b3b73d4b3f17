import { plainUrl } from '../http/secure-url.js'
import { segmentsOf } from '../http/server-path.js'
import type { ApiPart, ApiStrategy, StrategyPlugin } from '../offline/api-part.js'
import type { ApiRule } from '../request/intercept.js'
import { must } from '../values/must.js'
import { isPlain } from '../values/shape.js'
import { explainApi } from './explain-options.js'
import { either, scopeList } from './option-values.js'

declare const DEVELOPMENT: boolean

/** What the entries of `apis` come to. */
export interface ParsedApis {
  /** The longest path first, so that the first rule that matches is the closest one. */
  rules: ApiRule[]
  /** The scopes that they ask for. */
  scopes: string[]
  /** The resource indicator that they share. */
  resource?: string
}

const elements = /^(image|audio|video|track|font)$/

/** The part of a strategy's plugin that connects it with the worker. */
const strategyPart = (name: string, given: unknown): ApiPart | undefined => {
  if (given === undefined) return
  const strategy = given as ApiStrategy
  const plugin = strategy?.plugins?.find((each): each is StrategyPlugin => 'partOf' in each)
  must(plugin, name, 'must be one of Workbox, with tokenPlugin() (tokenward/workbox) in plugins.')
  const behind = strategy.plugins.slice(strategy.plugins.indexOf(plugin) + 1)
  // A later plugin that changes keys may take off whose they are.
  must(
    !behind.some((each) => 'cacheKeyWillBeUsed' in each || 'requestWillFetch' in each),
    name,
    'is out of order: tokenPlugin() must come after plugins that change requests or keys.',
  )
  // The query of the keys tells users apart.
  must(
    !strategy.matchOptions?.ignoreSearch,
    name,
    "must not ignore the query (ignoreSearch): users could get each other's data.",
  )
  return plugin.partOf(strategy)
}

const parseApi = (given: unknown, root: URL) => {
  const api = isPlain(given) ? given : { url: given }
  const { url, scope = '', resource, unauthenticated = 'pass' } = api
  const { destinations = [], methods, redirect = 'follow', expired, queue, strategy } = api
  const name = `apis: "${url}"`
  if (DEVELOPMENT) explainApi(name, api)
  must(
    typeof url === 'string' && /^(https?:\/\/|\/(?![/\\]))/i.test(url),
    name,
    'must start with https:// or, on this origin, with one "/".',
  )
  const absolute = url.startsWith('/') ? `${root.origin}${url}` : url
  const { origin, pathname } = plainUrl(name, absolute, root)
  must(
    Array.isArray(destinations) && destinations.every((each) => elements.test(String(each))),
    `${name}: destinations`,
    'must be a list of image, audio, video, track, font.',
  )
  const parts = [queue as ApiPart | undefined, strategyPart(`${name}: strategy`, strategy)]
  const rule: ApiRule = {
    origin,
    segments: segmentsOf(pathname),
    unauthenticated: either(`${name}: unauthenticated`, unauthenticated, ['pass', 'fail']),
    destinations,
    methods: methods as ApiRule['methods'],
    redirect: either<'follow' | 'error'>(`${name}: redirect`, redirect, ['follow', 'error']),
    expired: expired as ApiRule['expired'],
    parts: parts.filter((part) => part !== undefined),
  }
  return { rule, resource: resource as string | undefined, scopes: scopeList(scope) }
}

/**
 * Parses the option `apis`.
 *
 * @throws TokenError `invalid_configuration`
 */
export const parseApis = (given: unknown, root: URL): ParsedApis => {
  must(Array.isArray(given), 'apis', "must be a list, for example ['/api/'].")
  const apis = given.map((api) => parseApi(api, root))
  const rules = apis.map(({ rule }) => rule)
  const keys = rules.map(({ origin, segments }) => [origin, ...segments].join('/'))
  const twice = keys.find((key, index) => keys.indexOf(key) < index)
  must(!twice, 'apis', `names ${twice} twice.`)
  const parts = [...new Set(rules.flatMap(({ parts = [] }) => parts))]
  const names = parts.flatMap(({ name }) => name ?? [])
  // They would share one queue on the disk.
  must(
    new Set(names).size === names.length,
    'apis',
    `are wrong: two queues have the same name (${names}).`,
  )
  const resources = [...new Set(apis.flatMap(({ resource }) => resource ?? []))]
  must(
    resources.length < 2,
    'apis',
    `name more than one resource (${resources.join(', ')}), but all share one access token for now.`,
  )
  return {
    rules: rules.sort((a, b) => b.segments.length - a.segments.length),
    scopes: apis.flatMap(({ scopes }) => scopes),
    resource: resources[0],
  }
}
