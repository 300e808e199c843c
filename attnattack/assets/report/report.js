"use strict"
// The page of all runs. Tabulator draws the table, uPlot the plots.
const DATA = JSON.parse(document.getElementById("data").textContent) // {runs, metric, least, embedded}
const RUNS = DATA.runs
const RUN_OF = new Map(RUNS.map(run => [run.folder, run]))
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b"]
const FIRST = 5 // runs that are shown below the table when none is chosen
const $ = id => document.getElementById(id)
const isNumber = value => typeof value === "number"
const isMissing = value => value === undefined || value === null || value === ""

// ---- small helpers
function node(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes)
  made.append(...children)
  return made
}
function text(value) {
  if (isMissing(value)) return ""
  if (isNumber(value)) return Number.isInteger(value) ? String(value) : String(+value.toPrecision(5))
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}
const percent = value => String(+(100 * value).toPrecision(3))
const options = (id, names) => $(id).replaceChildren(...names.map(name => node("option", { value: name, textContent: name })))

// ---- figures: a rate or a mean and its interval are one column
const NAMES = new Set(RUNS.flatMap(run => Object.keys(run.metrics)))
const PARTS = ["rate", "mean", "low", "high", "half", "n"]
function figureOf(name) {
  const base = name.replace(/(^|\.)[^.]*$/, ""), part = name.slice(base ? base.length + 1 : 0)
  const has = key => NAMES.has(base ? `${base}.${key}` : key)
  const whole = (has("rate") || has("mean")) && ((has("low") && has("high")) || has("half"))
  return whole && base && PARTS.includes(part) ? base : name
}
function figure(run, name) {
  const of = part => run.metrics[`${name}.${part}`]
  const value = run.metrics[name] ?? of("rate") ?? of("mean")
  return { value, rate: of("rate"), low: of("low"), high: of("high"), half: of("half"), n: of("n") }
}
function figureText({ value, rate, low, high, half, n }) {
  if (!isNumber(value)) return text(value)
  const said = rate === undefined ? text : percent
  const interval = isNumber(low) ? ` [${said(low)} – ${said(high)}]` : isNumber(half) ? ` ± ${said(half)}` : ""
  return said(value) + (rate === undefined ? "" : " %") + interval + (isNumber(n) ? ` n ${n}` : "")
}

// ---- columns
const METRICS = [...new Set([...NAMES].map(figureOf))]
const PARAMS = [...new Set(RUNS.flatMap(run => Object.keys(run.params)))]
function areDifferent(values) {
  return new Set(values.map(text)).size > 1
}
const MOVING = PARAMS.filter(name => areDifferent(RUNS.map(run => run.params[name])))
const ABOUT = ["fault", "experiment", "start", "seconds", "device", "commit"]
const COLUMNS = [
  ...ABOUT.map(name => ({ key: name, name, group: "about", of: run => run[name] })),
  ...MOVING.map(name => ({ key: `p:${name}`, name, group: "parameters", of: run => run.params[name] })),
  ...METRICS.map(name => ({ key: `m:${name}`, name, group: "metrics", of: run => figure(run, name).value })),
  ...PARAMS.filter(name => !MOVING.includes(name)).map(name =>
    ({ key: `p:${name}`, name, group: "the same in all runs", of: run => run.params[name] })),
]
const SHOWN_AT_FIRST = COLUMNS.filter(column =>
  column.group === "parameters" || ["start", "seconds"].includes(column.key)
  || (column.key === "fault" && RUNS.some(run => run.fault))
  || (column.key === "experiment" && areDifferent(RUNS.map(run => run.experiment)))
  || (column.group === "metrics" && METRICS.indexOf(column.name) < 8)).map(column => column.key)
const ROWS = RUNS.map(run => {
  const row = { folder: run.folder, id: run.id }
  for (const column of COLUMNS) row[column.key] = column.of(run)
  return row
})

// ---- the state of the page is in its address
const AT_FIRST = {
  filter: "", least: DATA.least, columns: SHOWN_AT_FIRST, runs: [],
  metric: figureOf(DATA.metric) || METRICS.find(name => name.includes("success")) || METRICS[0] || "",
  sort: DATA.metric ? [`m:${figureOf(DATA.metric)}`, DATA.least ? "asc" : "desc"] : null, curve: "", "curve-log": false, effect: MOVING[0] || "", "effect-log": false,
}
const state = { ...AT_FIRST }
try {
  const saved = JSON.parse(decodeURIComponent(location.hash.slice(1)))
  for (const name of Object.keys(AT_FIRST)) if (name in saved) state[name] = saved[name]
} catch { /* no state, or one that somebody cut */ }
function keep(changes) {
  Object.assign(state, changes)
  const differs = name => JSON.stringify(state[name]) !== JSON.stringify(AT_FIRST[name])
  const saved = Object.fromEntries(Object.keys(AT_FIRST).filter(differs).map(name => [name, state[name]]))
  history.replaceState(null, "", Object.keys(saved).length ? "#" + encodeURIComponent(JSON.stringify(saved)) : "#")
}
addEventListener("hashchange", () => location.reload())

// ---- filters: `name operator value`, spaces allowed, and words; all must hold
const CONDITION = /([^\s<>=!"]+|"[^"]*")\s*(<=|>=|!=|==|=|<|>)\s*("[^"]*"|[^\s<>=!]+)|"([^"]*)"|(\S+)/g
const unquoted = word => word.replace(/^"(.*)"$/, "$1").toLowerCase()
const KNOWN = [
  ...COLUMNS, { name: "id", of: run => run.id }, { name: "folder", of: run => run.folder },
  ...[...NAMES].filter(name => figureOf(name) !== name).map(name => ({ name, of: run => run.metrics[name] })),
]
function columnNamed(name) {
  const fits = test => KNOWN.filter(column => test(column.name.toLowerCase()))
  const exact = fits(known => known === name)
  if (exact.length) return exact[0]
  const ends = fits(known => known.endsWith("." + name))
  if (ends.length === 1) return ends[0]
  const near = ends.length ? ends : fits(known => known.includes(name))
  const others = (near.length ? near : KNOWN.filter(column => MOVING.includes(column.name))).slice(0, 6)
  throw new RangeError(`filter: “${name}” is ${ends.length ? "the end of several names" : "no name here"}`
    + (others.length ? `; there is ${others.map(column => column.name).join(", ")}` : ""))
}
function compared(name, operator, wanted) {
  const column = columnNamed(unquoted(name)), asked = unquoted(wanted)
  const number = asked.endsWith("%") ? Number(asked.slice(0, -1)) / 100 : Number(asked)
  const equals = value => text(value).toLowerCase() === asked || value === number
  if (operator.startsWith("=")) return run => equals(column.of(run))
  if (operator === "!=") return run => !equals(column.of(run))
  if (Number.isNaN(number)) throw new RangeError(`filter: ${name} ${operator} “${asked}”, must be a number`)
  const tests = { "<": value => value < number, ">": value => value > number,
    "<=": value => value <= number, ">=": value => value >= number }
  return run => isNumber(column.of(run)) && tests[operator](column.of(run))
}
function wordsOf(run) {
  run.words ??= [run.experiment, run.id, run.folder, run.start, run.fault, JSON.stringify(run.params)].join(" ").toLowerCase()
  return run.words
}
function conditionsOf(asked) {
  return [...asked.matchAll(CONDITION)].map(([, name, operator, wanted, quoted, word]) => {
    if (operator) return compared(name, operator, wanted)
    const sought = (quoted ?? word).toLowerCase()
    if (/^[<>=!]|[<>=!]$/.test(sought)) throw new RangeError(`filter: “${sought}” needs a name and a value: lr > 0.01`)
    return run => wordsOf(run).includes(sought)
  })
}

// ---- the table
let table
function byValue(one, two, rowOne, rowTwo, column, direction) {
  if (isMissing(one) || isMissing(two)) return (isMissing(one) - isMissing(two)) * (direction === "asc" ? 1 : -1)
  if (isNumber(one) && isNumber(two)) return one - two
  if (isNumber(one) || isNumber(two)) return (isNumber(two) - isNumber(one)) * (direction === "asc" ? 1 : -1)
  return text(one).localeCompare(text(two))
}
const cellOf = (said, css = "") => node("span", { textContent: said, title: said, className: css })
function idCell(cell) {
  const run = RUN_OF.get(cell.getData().folder)
  const link = node("a", { href: run.page || run.link, textContent: run.id, title: run.folder })
  link.onclick = event => event.stopPropagation()
  return link
}
const dateText = value => text(value).slice(0, 16).replace("T", " ")
function definition(column, extra = {}) {
  const isMetric = column.group === "metrics"
  const formatter = cell => {
    if (column.key === "start") return cellOf(dateText(cell.getValue()))
    if (!isMetric) return cellOf(text(cell.getValue()), column.key)
    return cellOf(figureText(figure(RUN_OF.get(cell.getData().folder), column.name)), extra.frozen ? "ranked" : "")
  }
  return { title: column.name, field: column.key, sorter: byValue, formatter, maxWidth: 300, minWidth: 60,
    headerSortStartingDir: isMetric ? "desc" : "asc", titleFormatter: cell => cellOf(cell.getValue()), ...extra }
}
const ranking = () => COLUMNS.find(column => column.key === `m:${state.metric}`)
function definitions() {
  const pinned = ranking(), small = innerWidth < 600
  const first = { title: "run", field: "id", frozen: true, sorter: byValue, formatter: idCell, width: small ? 74 : 110 }
  const ranked = pinned ? [definition(pinned, { frozen: true, width: small ? 164 : 210 })] : []
  const others = COLUMNS.filter(column => column !== pinned && state.columns.includes(column.key))
  return [first, ...ranked, ...others.map(column => definition(column, column.key === "fault" ? { width: 180 } : {}))]
}
function sortAtFirst() {
  const known = [...COLUMNS.map(column => column.key), "id"]
  if (state.sort && known.includes(state.sort[0])) return [{ column: state.sort[0], dir: state.sort[1] }]
  return []
}
function drawTable() {
  table?.destroy()
  table = new Tabulator("#runs", {
    data: ROWS, index: "folder", columns: definitions(), height: Math.min(420, 60 + 30 * ROWS.length),
    initialSort: sortAtFirst(), nestedFieldSeparator: false, selectableRows: true, layout: "fitData",
    placeholder: "no run fits the filter", sortOrderReverse: false,
  })
  table.on("tableBuilt", () => {
    setFilter()
    table.selectRow(state.runs.filter(folder => RUN_OF.has(folder)))
    table.on("rowSelectionChanged", rows => { keep({ runs: rows.map(row => row.folder) }); drawBelow() })
    table.on("dataSorted", sorters => {
      if (sorters.length) keep({ sort: [sorters[0].field, sorters[0].dir] })
      setTimeout(drawBelow)
    })
    drawBelow()
    document.body.dataset.ready ??= Math.round(performance.now())
  })
}
function setFilter() {
  let conditions = []
  $("says").textContent = ""
  try {
    conditions = conditionsOf(state.filter)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    $("says").textContent = error.message
  }
  table.setFilter(row => conditions.every(fits => fits(RUN_OF.get(row.folder))))
  $("count").textContent = `${shown().length} of ${RUNS.length}`
  $("count").dataset.filter = state.filter // it is the count for this filter
}
const shown = () => table.getRows("active").map(row => RUN_OF.get(row.getData().folder))
function subject() {
  const chosen = state.runs.map(folder => RUN_OF.get(folder)).filter(Boolean)
  return chosen.length ? chosen : shown().slice(0, FIRST)
}

// ---- a run's name below the table: its id and what differs
function labels(runs) {
  const moving = MOVING.filter(name => areDifferent(runs.map(run => run.params[name])))
  return runs.map(run => {
    const said = moving.slice(0, 4).map(name => `${name} ${text(run.params[name]).slice(0, 24)}`)
    return [run.id.slice(0, 8), ...said].join(" · ")
  })
}

// ---- plots
const LINE = { stroke: "#444", grid: { stroke: "#e8e8e8" }, ticks: { stroke: "#aaa" },
  font: "12px system-ui", labelFont: "12px system-ui", labelSize: 18 }
const ticks = (plot, values) => values.map(value => isMissing(value) ? "" : text(+value.toPrecision(3)))
const room = id => Math.max(260, $(id).clientWidth)
function drawCurves(runs) {
  const found = [...new Set(runs.flatMap(run => Object.keys(run.curves || {})))]
  const all = [...new Set([...found, ...(state.curve ? [state.curve] : [])])]
  const name = all.includes(state.curve) ? state.curve : found[0]
  options("curve", all)
  $("curve").value = name || ""
  const log = state["curve-log"], drawn = runs.filter(run => run.curves?.[name])
  const lines = drawn.map(run => {
    const points = run.curves[name].filter(([, y]) => y !== null && !Number.isNaN(Number(y)) && (!log || y > 0))
    points.sort((one, two) => one[0] - two[0])
    return [points.map(([x]) => x), points.map(([, y]) => Number(y))]
  })
  const without = runs.length - runs.filter(run => run.curves).length
  const note = without ? [node("p", { className: "note", textContent: `${without} of these runs: not among the ${DATA.embedded} whose curves and pictures are in this page` })] : []
  $("curves").replaceChildren(...note)
  const data = lines.length ? uPlot.join(lines) : [[]]
  if (!data[0].length) {
    $("curves").prepend(node("p", { className: "note", textContent: "no curve of these runs" }))
    return null
  }
  const said = labels(drawn), value = (plot, y) => isMissing(y) ? "–" : text(y)
  const series = lines.map((line, i) => ({ label: said[i], stroke: COLOURS[i % COLOURS.length], width: 1.6,
    dash: i < COLOURS.length ? [] : [6, 4], spanGaps: true, value }))
  return new uPlot({ width: room("curves"), height: 280, scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
    axes: [{ ...LINE, label: "iteration", size: 36, values: ticks }, { ...LINE, size: 64, values: ticks }],
    series: [{ label: "iteration", value }, ...series] }, data, $("curves").appendChild(node("div")))
}

// a metric against a parameter: a point a run; where few values occur, their mean with its normal 95 % interval
function meansOf(points) {
  const groups = Map.groupBy ? Map.groupBy(points, point => point.x)
    : points.reduce((found, point) => found.set(point.x, [...(found.get(point.x) || []), point]), new Map())
  if (groups.size > 12) return []
  return [...groups].map(([x, group]) => {
    const mean = group.reduce((sum, { y }) => sum + y, 0) / group.length
    const squares = group.reduce((sum, { y }) => sum + (y - mean) ** 2, 0)
    return { x, mean, half: group.length > 1 ? 1.96 * Math.sqrt(squares / (group.length - 1) / group.length) : 0 }
  })
}
function drawMeans(plot, means) {
  const draw = plot.ctx
  const x = value => plot.valToPos(value, "x", true), y = value => plot.valToPos(value, "y", true)
  draw.save()
  draw.fillStyle = draw.strokeStyle = "#000"
  draw.lineWidth = 1.5 * devicePixelRatio
  for (const mean of means) {
    draw.beginPath()
    draw.moveTo(x(mean.x), y(mean.mean - mean.half))
    draw.lineTo(x(mean.x), y(mean.mean + mean.half))
    draw.stroke()
    draw.beginPath()
    draw.arc(x(mean.x), y(mean.mean), 4 * devicePixelRatio, 0, 7)
    draw.fill()
  }
  draw.restore()
}
function nearest(plot, points) {
  const { left, top } = plot.cursor
  const distance = ({ x, y }) => Math.hypot(plot.valToPos(x, "x") - left, plot.valToPos(y, "y") - top)
  let best = 0
  points.forEach((point, i) => { if (distance(point) < distance(points[best])) best = i })
  return best
}
function drawEffect(runs) {
  const name = state.effect, log = state["effect-log"]
  const with_both = runs.filter(run => isNumber(figure(run, state.metric).value) && !isMissing(run.params[name]))
  const numeric = with_both.every(run => isNumber(run.params[name]))
  const words = [...new Set(with_both.map(run => text(run.params[name])))].sort()
  const place = run => numeric ? run.params[name] : words.indexOf(text(run.params[name]))
  const points = with_both.map(run => ({ run, x: place(run), y: figure(run, state.metric).value }))
    .filter(point => !(log && numeric) || point.x > 0).sort((one, two) => one.x - two.x)
  $("effects").replaceChildren()
  if (!points.length) {
    $("effects").append(node("p", { className: "note", textContent: "no run has a number for both" }))
    return null
  }
  const means = meansOf(points), low = points[0].x, high = points.at(-1).x
  const margin = numeric ? (high - low) * .05 || Math.abs(low) * .1 || 1 : .5
  const range = () => log && numeric ? [low / 1.3, high * 1.3] : [low - margin, high + margin]
  const wordAxis = { splits: () => words.map((word, i) => i), values: () => words.map(word => word.slice(0, 12)) }
  const made = new uPlot({
    width: room("effects"), height: 280, scales: { x: { time: false, distr: log && numeric ? 3 : 1, range } },
    axes: [{ ...LINE, label: name, size: 36, values: ticks, ...(numeric ? {} : wordAxis) }, { ...LINE, size: 64, values: ticks }],
    cursor: { dataIdx: plot => nearest(plot, points), drag: { x: false, y: false } },
    series: [
      { label: name, value: (plot, x, series, i) => i === null ? "–" : text(points[i].run.params[name]) },
      { label: state.metric, stroke: COLOURS[0], paths: () => null, points: { show: true, size: 6, fill: COLOURS[0] + "80", width: 0 },
        value: (plot, y, series, i) => i === null ? "–" : `${figureText(figure(points[i].run, state.metric))} (${points[i].run.id.slice(0, 8)})` },
    ],
    hooks: { draw: [plot => drawMeans(plot, means)] },
  }, [points.map(({ x }) => x), points.map(({ y }) => y)], $("effects"))
  made.means = means
  const black = means.length ? "; black: mean and its 95 % interval" : ""
  $("effects").append(node("p", { className: "note", textContent: `${points.length} runs of the table, a point each${black}` }))
  return made
}

// ---- pictures: a line a name, a column a run
function enlarge(run, name) {
  const image = $("large").querySelector("img")
  image.onerror = () => { image.onerror = null; image.src = run.pictures[name] } // the page may be away from its runs
  image.src = `${run.link}/${name.split("/").map(encodeURIComponent).join("/")}`
  image.alt = name
  $("large").querySelector("p").textContent = `${run.id} · ${name}`
  $("large").showModal()
}
function drawPictures(runs) {
  const withPictures = runs.filter(run => run.pictures && Object.keys(run.pictures).length)
  const names = [...new Set(withPictures.flatMap(run => Object.keys(run.pictures)))], said = labels(withPictures)
  if (!names.length) {
    $("pictures").replaceChildren(node("p", { className: "note", textContent: "no picture of these runs in this page; the run's name in the table is a link to its own" }))
    return
  }
  const picture = (run, name) => {
    if (!run.pictures[name]) return node("td")
    const image = node("img", { src: run.pictures[name], alt: `${name} of ${run.id}`, loading: "lazy", tabIndex: 0 })
    image.onclick = () => enlarge(run, name)
    image.onkeydown = event => { if (event.key === "Enter") enlarge(run, name) }
    return node("td", {}, image)
  }
  const head = node("tr", {}, node("th"), ...said.map(label => node("th", { textContent: label })))
  const lines = names.map(name => node("tr", {}, node("th", { textContent: name }), ...withPictures.map(run => picture(run, name))))
  $("pictures").replaceChildren(node("table", { className: "plain" }, node("thead", {}, head), node("tbody", {}, ...lines)))
}

// ---- differences
function drawDifferences(runs) {
  const line = (kind, name, said) => ({ kind, name, said })
  const lines = [
    ...PARAMS.map(name => line("parameter", name, runs.map(run => text(run.params[name])))),
    ...METRICS.map(name => line("metric", name, runs.map(run => figureText(figure(run, name))))),
    ...["experiment", "commit", "code", "device", "threads"].map(name => line("around", name, runs.map(run => text(run[name])))),
  ].filter(({ said }) => areDifferent(said))
  if (!lines.length) {
    $("differences").replaceChildren(node("p", { className: "note", textContent: runs.length > 1 ? "nothing" : "choose two runs or more" }))
    return
  }
  const cells = ({ kind, name, said }) =>
    [node("th", { textContent: name, title: kind, className: kind }), ...said.map(value => node("td", { textContent: value }))]
  const head = node("tr", {}, node("th"), ...runs.map(run => node("th", { textContent: run.id.slice(0, 8) })))
  const body = node("tbody", {}, ...lines.map(made => node("tr", {}, ...cells(made))))
  $("differences").replaceChildren(node("table", { className: "plain" }, node("thead", {}, head), body))
}

const plots = {}
function drawBelow() {
  const runs = subject()
  const first = runs.length < FIRST ? "all of the table" : `the first ${FIRST} of the table`
  const which = state.runs.length ? `the ${runs.length} chosen` : `${first}; click rows to choose`
  $("below").textContent = `Curves, pictures and differences: ${which}`
  const broken = runs.filter(run => run.fault).map(run => node("p", { className: "fault", textContent: `${run.id}: ${run.fault}` }))
  $("faults").replaceChildren(...broken)
  for (const name of Object.keys(plots)) plots[name]?.destroy()
  plots.curves = drawCurves(runs)
  plots.effects = drawEffect(shown())
  drawPictures(runs)
  drawDifferences(runs)
}

// ---- all metrics and parameters of the table's runs, as a file
function csv() {
  const quoted = value => /[",\r\n]/.test(text(value)) ? `"${text(value).replaceAll('"', '""')}"` : text(value)
  const exact = value => isNumber(value) ? String(value) : quoted(value)
  const parts = [...["experiment", "id", "folder", "fault", "start", "seconds"].map(name => [name, run => run[name]]),
    ...PARAMS.map(name => [`params.${name}`, run => run.params[name]]), ...[...NAMES].map(name => [`metrics.${name}`, run => run.metrics[name]])]
  const lines = [parts.map(([name]) => quoted(name)), ...shown().map(run => parts.map(([, of]) => exact(of(run))))]
  return lines.map(line => line.join(",")).join("\r\n") + "\r\n"
}
function saveCsv() {
  const link = node("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "runs.csv" })
  link.click()
  URL.revokeObjectURL(link.href)
}

// ---- controls
function drawChooser() {
  const groups = [...new Set(COLUMNS.map(column => column.group))]
  const line = column => {
    const box = node("input", { type: "checkbox", checked: state.columns.includes(column.key) })
    box.onchange = () => {
      keep({ columns: COLUMNS.map(({ key }) => key).filter(key => key === column.key ? box.checked : state.columns.includes(key)) })
      drawTable()
    }
    return node("label", {}, box, ` ${column.name}`)
  }
  $("columns").replaceChildren(...groups.flatMap(group =>
    [node("b", { textContent: group }), ...COLUMNS.filter(column => column.group === group).map(line)]))
}
options("metric", METRICS)
options("effect", MOVING)
for (const id of ["filter", "metric", "effect"]) $(id).value = state[id]
for (const id of ["least", "curve-log", "effect-log"]) $(id).checked = state[id]
drawChooser()
let waiting
$("filter").oninput = () => {
  keep({ filter: $("filter").value })
  clearTimeout(waiting)
  waiting = setTimeout(() => { setFilter(); drawBelow() }, 120)
}
function rankAgain() {
  const metric = $("metric").value, least = $("least").checked
  keep({ metric, least, sort: [`m:${metric}`, least ? "asc" : "desc"] })
  drawTable()
}
$("metric").onchange = $("least").onchange = rankAgain
for (const id of ["curve", "effect"]) $(id).onchange = () => { keep({ [id]: $(id).value }); drawBelow() }
for (const id of ["curve-log", "effect-log"]) $(id).onchange = () => { keep({ [id]: $(id).checked }); drawBelow() }
$("csv").onclick = saveCsv
$("clear").onclick = () => table.deselectRow()
$("large").onclick = () => $("large").close()
document.addEventListener("click", event => { if (!$("chooser").contains(event.target)) $("chooser").open = false })
addEventListener("resize", () => {
  for (const name of Object.keys(plots)) plots[name]?.setSize({ width: room(name), height: 280 })
})
drawTable()
