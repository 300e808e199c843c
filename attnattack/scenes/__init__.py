"""A painted off-road world: scenes from a seed, with all that is known about them."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "canvas": [
            "RELLIS_LABELS", "LABEL_ID", "OBJECTS", "TRAILS", "SKIES", "COLOURS", "check_ids", "colour", "CELSIUS",
            "ROUGH", "Canvas", "shade", "jitter", "texture_tiles", "texture",
        ],
        "files": [
            "frame_name", "frame_paths", "write_offroad", "read_list", "find_list", "read_notes", "check_files", "sift",
        ],
        "landscape": [
            "SKY_COLOURS", "draw_sky", "draw_clouds", "draw_trees", "draw_ground", "TRAIL_COLOURS", "trail_middle",
            "draw_puddle", "draw_trail", "draw_bushes", "draw_landscape",
        ],
        "objects": [
            "Area", "EXTENT", "SHIRTS", "draw_person", "CARS", "GLASS", "draw_wheel", "draw_vehicle", "draw_board",
            "draw_barrier", "draw_log", "draw_fence", "draw_stone", "draw_rubble", "WALLS", "ROOFS", "draw_building",
            "draw_pole", "PAINTERS", "draw_object",
        ],
        "scene": ["LIGHT", "WARMTH", "box_of", "Scene", "caption_of", "whole_number", "draw_scene"],
    },
)
