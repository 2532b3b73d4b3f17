import { must } from '../values/must.js'

const isLoopback = (hostname: string): boolean =>
  /^(.+\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname)

/**
 * A URL that tokens may travel to: https, or http on loopback where the worker itself runs there.
 *
 * @throws TokenError `invalid_configuration`
 */
export const secureUrl = (name: string, value: unknown, root: URL): URL => {
  const url = typeof value === 'string' && URL.canParse(value) && new URL(value)
  must(url, name, 'must be a URL.')
  const isLocal = isLoopback(url.hostname) && isLoopback(root.hostname)
  must(
    url.protocol === 'https:' || (url.protocol === 'http:' && isLocal),
    name,
    'must use https (http only on localhost).',
  )
  const isBare = !url.username && !url.password && !url.href.includes('#')
  must(isBare, name, 'must have no user and no fragment.')
  return url
}

/** A secure URL that is compared with others, so nothing in it may be lost in a comparison. */
export const plainUrl = (name: string, value: unknown, root: URL): URL => {
  const url = secureUrl(name, value, root)
  must(!/[?*]/.test(url.href), name, 'must have no query and no wildcard.')
  return url
}
