// Each face's smoothed probabilities over time, stacked; its mood as a band below.
const MOST = 1000; // points of a face; neighbours are joined when there are more
const SHOWN = 6; // faces, the newest
const GAP = 2; // seconds without the face after which its curve begins again

export class Curves {
  constructor(canvas, colours) {
    this.canvas = canvas;
    this.colours = colours;
    this.clear();
  }

  clear() {
    this.faces = new Map();
    this.end = 0;
    this.draw();
  }

  add(answer) {
    if (answer.time < this.end) this.clear();
    this.end = answer.time;
    for (const face of answer.faces) {
      if (face.track === null) continue;
      const points = this.faces.get(face.track) || [];
      const values = Object.keys(this.colours).map((name) => face[`smoothed_${name}`]);
      points.push({ time: answer.time, mood: face.mood, values });
      this.faces.set(face.track, points.length > MOST ? points.filter((_, at) => at % 2) : points);
    }
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const shown = [...this.faces].slice(-SHOWN);
    const [left, bottom, each] = [24, 20, (height - 20) / Math.max(1, shown.length)];
    const length = Math.max(10, this.end);
    const x = (time) => left + (time / length) * (width - left);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.font = "12px sans-serif";
    shown.forEach(([number, points], place) => {
      const top = place * each + 4;
      const tall = each - 18; // of the curve; the band lies below
      points.forEach((point, at) => {
        const next = points[at + 1];
        const until = next && next.time - point.time <= GAP ? next.time : point.time + 0.1;
        const [from, wide] = [x(point.time), Math.max(1, x(until) - x(point.time) + 0.5)];
        let y = top + tall;
        Object.values(this.colours).forEach((colour, emotion) => {
          const part = point.values[emotion] * tall;
          y -= part;
          pen.fillStyle = colour;
          pen.fillRect(from, y, wide, part + 0.5);
        });
        pen.fillStyle = this.colours[point.mood];
        pen.fillRect(from, top + tall + 3, wide, 7);
      });
      pen.fillStyle = "#000";
      pen.fillText(String(number), 6, top + 14);
    });
    pen.fillStyle = "#000";
    const step = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600].find((one) => length / one <= 8) || 7200;
    for (let time = 0; time < length; time += step) pen.fillText(`${time} s`, x(time), height - 5);
  }
}
