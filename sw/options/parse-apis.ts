import { plainUrl } from '../http/secure-url.js'
import { segmentsOf } from '../http/server-path.js'
import type { ApiPart, ApiStrategy, StrategyPlugin } from '../offline/api-part.js'
import type { ApiRule } from '../request/intercept.js'
import { must } from '../values/must.js'
import { isRecord } from '../values/shape.js'
import { explainApi } from './explain-options.js'
import { either, isListOf, scopesIn } from './option-values.js'

declare const DEVELOPMENT: boolean

/** The entries of `apis`, parsed. */
export interface ParsedApis {
  /** The longest path first, so that the first rule that matches is the closest one. */
  rules: ApiRule[]
  /** The scopes that they need. */
  scopes: string[]
  /** The resource indicator that they share. */
  resource?: string
}

/** The URL of an entry: absolute, or a path on the worker's own origin. */
const parseUrl = (name: string, url: unknown, root: URL): URL => {
  must(
    typeof url === 'string' && /^(https?:\/\/|\/(?![/\\]))/i.test(url),
    name,
    'must start with https:// or, on this origin, with one "/".',
  )
  return plainUrl(name, url.startsWith('/') ? root.origin + url : url, root)
}

/** The part of a strategy's plugin that connects the strategy with the worker. */
const strategyPart = (name: string, given: unknown): ApiPart | undefined => {
  if (given === undefined) return
  const strategy = given as ApiStrategy
  const plugin = strategy?.plugins?.find((each): each is StrategyPlugin => 'partOf' in each)
  must(
    plugin,
    name,
    'must be one of Workbox, with tokenPlugin() (tokenward/workbox) in its plugins.',
  )
  return plugin.partOf(strategy)
}

/** A rule without a token for each path that an entry leaves out. */
const parseExceptions = (name: string, except: string[], { segments, ...rule }: ApiRule) =>
  except.map((path): ApiRule => {
    const { pathname } = new URL(['', ...segments, path].join('/'), rule.origin)
    const inner = segmentsOf(pathname)
    const isBelow = inner.length > segments.length && segments.every((each, i) => each === inner[i])
    must(
      isBelow && !/^[/\\]|[?#*]/.test(path),
      `${name}: except "${path}"`,
      "must be a path below the API's own, without a slash at its start, like 'public/'.",
    )
    return { ...rule, segments: inner, isPublic: true }
  })

const parseApi = (given: unknown, root: URL) => {
  const api = isRecord(given) ? given : { url: given }
  const name = `apis: "${api['url']}"`
  if (DEVELOPMENT) explainApi(name, api)
  const { url, scope = '', resource, unauthenticated = 'pass' } = api
  const { destinations = [], methods, redirect = 'follow', expired, strategy, queue } = api
  const { except = [] } = api
  const { origin, pathname } = parseUrl(name, url, root)
  must(
    resource === undefined || typeof resource === 'string',
    `${name}: resource`,
    'must be a URI.',
  )
  must(
    isListOf(destinations, /^(image|audio|video|track|font)$/),
    `${name}: destinations`,
    'must be a list of image, audio, video, track, font.',
  )
  must(
    methods === undefined || isListOf(methods, /^[A-Z]+$/),
    `${name}: methods`,
    "must be a list like ['GET', 'HEAD'].",
  )
  must(isListOf(except, /./), `${name}: except`, "must be a list of paths like ['public/'].")
  const parts = [queue as ApiPart | undefined, strategyPart(`${name}: strategy`, strategy)]
  const rule: ApiRule = {
    origin,
    segments: segmentsOf(pathname),
    unauthenticated: either(`${name}: unauthenticated`, unauthenticated, ['pass', 'fail']),
    destinations,
    methods,
    redirect: either(`${name}: redirect`, redirect, ['follow', 'error']),
    expired: expired as ApiRule['expired'],
    parts: parts.filter((part) => part !== undefined),
  }
  const rules = [rule, ...parseExceptions(name, except, rule)]
  return { rules, resource, scopes: scopesIn(`${name}: scope`, scope) }
}

const repeated = (items: string[]): string | undefined =>
  items.find((item, index) => items.indexOf(item) < index)

/**
 * Checks the entries of `apis`, each alone and all together.
 *
 * @throws TokenError `invalid_configuration`
 */
export const parseApis = (given: unknown, root: URL): ParsedApis => {
  must(Array.isArray(given), 'apis', "must be a list, for example ['/api/'].")
  const apis = given.map((api) => parseApi(api, root))
  const rules = apis.flatMap(({ rules }) => rules)
  const url = repeated(rules.map(({ origin, segments }) => [origin, ...segments].join('/')))
  must(url === undefined, 'apis', `must not name ${url} twice.`)
  // One queue may serve several entries, but two of one name would share what is on the disk.
  const parts = [...new Set(rules.flatMap(({ parts = [] }) => parts))]
  const queue = repeated(parts.flatMap(({ name }) => name ?? []))
  must(queue === undefined, 'apis', `must not have two queues with the name "${queue}".`)
  const resources = [...new Set(apis.flatMap(({ resource }) => resource ?? []))]
  must(
    resources.length < 2,
    'apis',
    `must not name more than one resource (${resources.join(', ')}): all APIs share one access ` +
      'token for now.',
  )
  return {
    rules: rules.sort((a, b) => b.segments.length - a.segments.length),
    scopes: apis.flatMap(({ scopes }) => scopes),
    resource: resources[0],
  }
}
